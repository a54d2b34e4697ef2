//! Socket filters: which packets the kernel lets through to us; pure.
//!
//! They run before a packet is queued, so that a flood of forged replies costs no wake-up.
//! What passes is still checked in full by `frame` and `message`: a filter is a bouncer, not a judge.
//! Both work on what a `SOCK_DGRAM` packet socket sees: packets without their link-layer header.

use gokrazy_sys::packet::Instruction;

use crate::conflict::Watch;

/// `BPF_LD | BPF_W | BPF_ABS` and its smaller and indexed kin.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_INDEXED: u16 = 0x40;
const LOAD_HALF_INDEXED: u16 = 0x48;
const LOAD_BYTE_INDEXED: u16 = 0x50;
/// `BPF_LDX | BPF_B | BPF_MSH`: four times the low nibble, the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JSET | BPF_K`.
const JUMP_SET: u16 = 0x45;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `SKF_NET_OFF`, -0x100000: what is added to it is an offset into the network header.
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// Accepted packets are passed whole.
const WHOLE: u32 = 0xffff;

/// Drops everything.
pub fn nothing() -> Vec<Instruction> {
    vec![plain(RETURN, 0)]
}

/// Lets through what looks like a reply to transaction `xid` for `mac`: unfragmented UDP from port 67 to 68 with
/// operation 2, our transaction id, our hardware address and the DHCP magic.
pub fn reply(xid: u32, mac: [u8; 6]) -> Vec<Instruction> {
    let [a, b, c, d, e, f] = mac;
    let high = u32::from_be_bytes([a, b, c, d]);
    let low = u32::from(u16::from_be_bytes([e, f]));
    let mut tests = vec![
        (LOAD_BYTE, 9, 17),
        (LOAD_HALF_INDEXED, 0, 67),
        (LOAD_HALF_INDEXED, 2, 68),
        (LOAD_BYTE_INDEXED, 8, 2),
        (LOAD_WORD_INDEXED, 12, xid),
        (LOAD_WORD_INDEXED, 36, high),
        (LOAD_HALF_INDEXED, 40, low),
        (LOAD_WORD_INDEXED, 244, 0x6382_5363),
    ]
    .into_iter();
    let mut program = Vec::with_capacity(22);
    program.extend(tests.next().into_iter().flat_map(equals));
    // More fragments, or an offset: not the first, or not the whole.
    program.push(plain(LOAD_HALF, 6));
    program.push(jump(JUMP_SET, 0x3fff, 0, 1));
    program.push(plain(RETURN, 0));
    program.push(plain(LOAD_HEADER_LENGTH, 0));
    program.extend(tests.flat_map(equals));
    program.push(plain(RETURN, WHOLE));
    program
}

/// Lets through DHCPv6 messages of transaction `xid` to a link-local address (where ours are answered to), on a UDP
/// socket, which shows its filter the UDP header first.
pub fn reply6(xid: [u8; 3]) -> Vec<Instruction> {
    let [a, b, c] = xid;
    vec![
        plain(LOAD_WORD, 8),
        plain(AND, 0x00ff_ffff),
        jump(JUMP_EQUAL, u32::from_be_bytes([0, a, b, c]), 0, 4),
        // The start of the IPv6 header's destination.
        plain(LOAD_WORD, NETWORK_HEADER + 24),
        plain(AND, 0xffc0_0000),
        jump(JUMP_EQUAL, 0xfe80_0000, 0, 1),
        plain(RETURN, WHOLE),
        plain(RETURN, 0),
    ]
}

/// Lets through ARP packets of others that claim the address watched, or also probe for it while it is being tried.
pub fn claims(watch: Watch, mac: [u8; 6]) -> Vec<Instruction> {
    let [a, b, c, d, e, f] = mac;
    let (Watch::Trying(address) | Watch::Holding(address)) = watch;
    let address = u32::from(address);
    let mut program = Vec::with_capacity(16);
    // Our own packets, echoed by a bridge.
    program.push(plain(LOAD_WORD, 8));
    program.push(jump(JUMP_EQUAL, u32::from_be_bytes([a, b, c, d]), 0, 3));
    program.push(plain(LOAD_HALF, 12));
    program.push(jump(
        JUMP_EQUAL,
        u32::from(u16::from_be_bytes([e, f])),
        0,
        1,
    ));
    program.push(plain(RETURN, 0));
    program.push(plain(LOAD_WORD, 14));
    program.push(jump(JUMP_EQUAL, address, 0, 1));
    program.push(plain(RETURN, WHOLE));
    if let Watch::Holding(_) = watch {
        program.push(plain(RETURN, 0));
        return program;
    }
    program.push(jump(JUMP_EQUAL, 0, 1, 0));
    program.push(plain(RETURN, 0));
    program.extend(equals((LOAD_WORD, 24, address)));
    program.push(plain(RETURN, WHOLE));
    program
}

/// Drops the packet unless the value loaded is `wanted`.
fn equals((load, offset, wanted): (u16, u32, u32)) -> [Instruction; 3] {
    [
        plain(load, offset),
        jump(JUMP_EQUAL, wanted, 1, 0),
        plain(RETURN, 0),
    ]
}

fn plain(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        operand,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::frame::{Arp, wrap};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);

    /// A packet whose network header the program does not look at.
    fn run(program: &[Instruction], packet: &[u8]) -> bool {
        run_below(program, &[], packet)
    }

    /// A machine for the instructions used here; `false` is "drop".
    fn run_below(program: &[Instruction], header: &[u8], packet: &[u8]) -> bool {
        let (mut accumulator, mut index, mut at) = (0_u32, 0_usize, 0_usize);
        let load = |from: usize, len: usize| -> Option<u32> {
            let bytes = match from.checked_sub(NETWORK_HEADER as usize) {
                Some(from) => header.get(from..from + len)?,
                None => packet.get(from..from + len)?,
            };
            Some(bytes.iter().fold(0, |v, b| v << 8 | u32::from(*b)))
        };
        loop {
            let step = program[at];
            at += 1;
            let k = step.operand as usize;
            let loaded = match step.code {
                RETURN => return step.operand != 0,
                JUMP_EQUAL | JUMP_SET => {
                    let holds = match step.code {
                        JUMP_EQUAL => accumulator == step.operand,
                        _ => accumulator & step.operand != 0,
                    };
                    at += usize::from(if holds {
                        step.jump_true
                    } else {
                        step.jump_false
                    });
                    continue;
                }
                AND => {
                    accumulator &= step.operand;
                    continue;
                }
                LOAD_HEADER_LENGTH => {
                    index = usize::from(packet[k] & 0xf) * 4;
                    continue;
                }
                LOAD_WORD => load(k, 4),
                LOAD_HALF => load(k, 2),
                LOAD_BYTE => load(k, 1),
                LOAD_WORD_INDEXED => load(k + index, 4),
                LOAD_HALF_INDEXED => load(k + index, 2),
                LOAD_BYTE_INDEXED => load(k + index, 1),
                other => panic!("instruction {other:#x}"),
            };
            match loaded {
                Some(value) => accumulator = value,
                None => return false,
            }
        }
    }

    fn packet() -> Vec<u8> {
        let mut message = vec![2, 1, 6, 0];
        message.extend(0x1234_5678_u32.to_be_bytes());
        message.extend([0; 20]);
        message.extend(MAC);
        message.resize(236, 0);
        message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255]);
        let mut packet = wrap(ADDRESS, Ipv4Addr::BROADCAST, &message);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn our_reply_passes_and_each_deviation_does_not() {
        let program = reply(0x1234_5678, MAC);
        let good = packet();
        assert!(run(&program, &good));
        // Protocol, fragment bits, ports, operation, xid, hardware address, magic.
        for offset in [9, 6, 7, 20, 21, 22, 23, 28, 32, 35, 56, 60, 61, 264, 267] {
            let mut bad = good.clone();
            bad[offset] ^= 0x01;
            let fragment_bit_zero = offset == 6 && bad[6] & 0x3f == 0;
            assert!(fragment_bit_zero || !run(&program, &bad), "byte {offset}");
        }
        for end in 0..268 {
            assert!(!run(&program, &good[..end.max(1)]));
        }
        assert!(!run(&nothing(), &good));
    }

    #[test]
    fn header_options_shift_what_is_compared() {
        let mut long = packet();
        long.splice(20..20, [1, 1, 1, 0]);
        long[0] = 0x46;
        assert!(run(&reply(0x1234_5678, MAC), &long));
    }

    #[test]
    fn only_the_awaited_transaction_of_dhcpv6_passes() {
        let program = reply6([1, 2, 3]);
        let packet = |xid: [u8; 3]| [&[0; 8][..], &[7], &xid, &[0, 1]].concat();
        let to = |start: [u8; 4]| [&[0; 24][..], &start, &[0; 12]].concat();
        let own = to([0xfe, 0x80, 0, 0]);
        assert!(run_below(&program, &own, &packet([1, 2, 3])));
        assert!(!run_below(&program, &own, &packet([1, 2, 4])));
        assert!(!run_below(&program, &own, &packet([1, 2, 3])[..11]));
        for start in [[0xff, 2, 0, 0], [0x20, 1, 0x0d, 0xb8], [0xfe, 0xc0, 0, 0]] {
            assert!(!run_below(&program, &to(start), &packet([1, 2, 3])));
        }
    }

    #[test]
    fn claims_by_others_pass_and_nothing_else() {
        let program = claims(Watch::Trying(ADDRESS), MAC);
        let holding = claims(Watch::Holding(ADDRESS), MAC);
        let other = [2, 0, 0, 0, 0, 8];
        assert!(run(&program, &Arp::probe(other, ADDRESS).encode()));
        assert!(run(&program, &Arp::announcement(other, ADDRESS).encode()));
        assert!(run(&holding, &Arp::announcement(other, ADDRESS).encode()));
        assert!(!run(&holding, &Arp::announcement(MAC, ADDRESS).encode()));
        assert!(!run(&holding, &Arp::probe(other, ADDRESS).encode()));
        assert!(!run(&program, &Arp::announcement(MAC, ADDRESS).encode()));
        let elsewhere = Ipv4Addr::new(192, 0, 2, 99);
        assert!(!run(&program, &Arp::probe(other, elsewhere).encode()));
        let mut asks_us = Arp::probe(other, ADDRESS);
        asks_us.sender = elsewhere;
        assert!(!run(&program, &asks_us.encode()));
    }
}
