//! Bytes from an adversary, through decoding into the machines, over simulated days.
//!
//! Runs a thousand seeds by default; `DHCP_SEEDS=FROM..TO` chooses others, so that
//! `DHCP_SEEDS=0..10000000 cargo test --release --test adversary` goes on for as long as one has patience.
//! A failure names its seed, which then reproduces it alone.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gokrazy_dhcp::conflict::Check;
use gokrazy_dhcp::frame::{self, Arp, Checksum};
use gokrazy_dhcp::machine::{Event, Machine, Memory, Profile};
use gokrazy_dhcp::machine6::{Advice, Machine6};
use gokrazy_dhcp::message::{self, ClasslessRoutes, Identity, v6};
use gokrazy_dhcp::moment::{Chance, Moment};
use gokrazy_dhcp::plan::{Reach, Standing, target};
use gokrazy_dhcp::publish::contribution;
use gokrazy_dhcp::resolver;
use gokrazy_dhcp::router_dns::RouterDns;
use gokrazy_dhcp::store;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Seeded chance (splitmix64).
struct Seeded(u64);

impl Chance for Seeded {
    fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()
    }
}

impl Seeded {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw()).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.draw().to_le_bytes()[0]
    }

    /// Flips, cuts, repeats.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(6) {
            match self.below(4) {
                0 if !bytes.is_empty() => {
                    let at = self.below(bytes.len());
                    bytes[at] = self.byte();
                }
                1 => {
                    let keep = self.below(bytes.len() + 1);
                    bytes.truncate(keep);
                }
                2 => {
                    let at = self.below(bytes.len() + 1);
                    let byte = self.byte();
                    bytes.insert(at, byte);
                }
                _ => {
                    let from = self.below(bytes.len() + 1);
                    let again = bytes[from..].to_vec();
                    bytes.extend(again.into_iter().take(600));
                }
            }
        }
    }

    fn options(&mut self) -> Vec<u8> {
        const CODES: [u8; 22] = [
            1, 3, 6, 12, 15, 26, 28, 33, 42, 51, 52, 54, 58, 59, 61, 80, 108, 114, 119, 121, 53, 0,
        ];
        let mut bytes = Vec::new();
        for _ in 0..self.below(12) {
            let len = [0, 1, 2, 4, 8, 12, 255][self.below(7)];
            bytes.extend([CODES[self.below(CODES.len())], len]);
            let filler = [0, 1, 0x3f, 0xc0, 0xff, self.byte()][self.below(6)];
            bytes.extend((0..len).map(|at| if at % 3 == 0 { filler } else { self.byte() }));
        }
        bytes
    }

    fn reply(&mut self, xid: u32) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([192, 0, 2, self.byte(), 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(MAC);
        bytes.resize(236, if self.below(8) == 0 { 3 } else { 0 });
        let kind = [2, 5, 5, 6][self.below(4)];
        bytes.extend([
            99, 130, 83, 99, 53, 1, kind, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0,
        ]);
        bytes.extend(self.options());
        bytes.push(255);
        if self.below(3) == 0 {
            self.spoil(&mut bytes);
        }
        bytes
    }
}

fn identity() -> Identity {
    Identity {
        mac: MAC,
        client_id: [&[1], &MAC[..]].concat(),
        hostname: None,
        wanted: vec![1, 3, 6],
        longest: None,
        rapid_commit: true,
        broadcast: false,
        in_order: false,
    }
}

/// What the shell would make of the machine's lease: a kernel state, files; none may hold what was not checked.
fn publish(machine: &Machine) {
    let Some(grant) = machine.grant() else { return };
    let lease = store::lease(grant, "eth0");
    let text = lease.render();
    assert_eq!(gokrazy_core::lease::Lease::parse(&text).unwrap(), lease);
    let ipv4 = lease.ipv4.as_ref().unwrap();
    let target = target(ipv4, Reach::World, 1, 1000, Standing::Full, Some(1));
    assert!(target.routes.len() < 300);
    for line in resolver::render(&[contribution(&lease)])
        .unwrap_or_default()
        .lines()
        .skip(1)
    {
        let (word, rest) = line.split_once(' ').unwrap();
        assert!(["domain", "search", "nameserver"].contains(&word), "{line}");
        assert!(
            rest.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c)),
            "{line}"
        );
    }
}

fn four(chance: &mut Seeded) {
    let profile = Profile {
        mac: MAC,
        check: [Check::Off, Check::Fast, Check::Full][chance.below(3)],
        rapid_commit: true,
        ipv6_only: true,
        remember: true,
        only_offer: false,
    };
    let mut now = Moment::from_secs(0);
    let mut machine = Machine::new(profile, Memory::None, now);
    let _ = machine.on(Event::LinkUp, now, chance);
    for _ in 0..60 {
        let until = now.after(Duration::from_millis(u64::from(chance.draw() % 30_000)));
        let mut turns = 0;
        while let Some(at) = machine.deadline().filter(|at| *at <= until) {
            now = now.max(at);
            let _ = machine.on(Event::Deadline, now, chance);
            turns += 1;
            assert!(turns < 500, "the machine spins");
        }
        now = until;
        let xid = machine.awaited().unwrap_or(1);
        let bytes = chance.reply(xid);
        let mut packet = frame::wrap(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::BROADCAST, &bytes);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        if chance.below(8) == 0 {
            chance.spoil(&mut packet);
            let _ = frame::unwrap(&packet, Checksum::Missing);
            let _ = Arp::decode(&packet);
        }
        if let Ok(payload) = frame::unwrap(&packet, Checksum::Present)
            && let Ok(reply) = message::decode(payload, &identity(), ClasslessRoutes::Accept)
        {
            let _ = machine.on(Event::Reply(reply), now, chance);
        }
        publish(&machine);
    }
}

fn six(chance: &mut Seeded) {
    let identity = v6::Identity {
        duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 7],
        iaid: 7,
    };
    let mut machine = Machine6::default();
    let mut routers = RouterDns::default();
    let mut now = Moment::from_secs(0);
    machine.on_advice(Advice::Address, now, chance);
    for _ in 0..40 {
        let until = now.after(Duration::from_millis(u64::from(chance.draw() % 30_000)));
        let mut turns = 0;
        while let Some(at) = machine.deadline().filter(|at| *at <= until) {
            now = now.max(at);
            let _ = machine.on_deadline(now, chance);
            turns += 1;
            assert!(turns < 500, "the machine spins");
        }
        now = until;
        let [a, b, c] = machine.awaited().unwrap_or_default();
        let mut bytes = vec![[2, 7][chance.below(2)], a, b, c, 0, 1, 0, 10];
        bytes.extend(&identity.duid);
        bytes.extend([
            0, 2, 0, 2, 9, 9, 0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24,
        ]);
        bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, chance.byte(), 0, 0, 0, chance.byte()]);
        bytes.extend([0, 24, 0, 4, 3, b'l', b'a', b'n']);
        chance.spoil(&mut bytes);
        if let Some(reply) = v6::decode(&bytes, &identity) {
            let _ = machine.on_reply(reply, now, chance);
        }
        let mut option = vec![[25, 31][chance.below(2)], 3, 0, 0, 0, 0, 0, chance.byte()];
        option.extend((0..16).map(|_| chance.byte()));
        if chance.below(2) == 0 {
            chance.spoil(&mut option);
        }
        let router = Ipv6Addr::from(u128::from(chance.byte() & 3));
        let _ = routers.take(&option, Some(router), now);
        assert!(routers.servers().len() <= 8 && routers.search().len() <= 8);
    }
}

#[test]
fn hostile_bytes_change_nothing_that_they_should_not() {
    let range = std::env::var("DHCP_SEEDS").unwrap_or_else(|_| "0..1000".to_owned());
    let (from, to) = range.split_once("..").unwrap();
    for seed in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        let run = || {
            let mut chance = Seeded(seed);
            four(&mut chance);
            six(&mut chance);
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            panic!("DHCP_SEEDS={seed}..{} fails", seed + 1);
        }
    }
}
