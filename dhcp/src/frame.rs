//! IPv4, UDP and ARP packets as bytes (RFC 791, 768, 826); pure.
//!
//! What the link layer adds is the kernel's; what a DHCP message contains is `message`'s.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::Ipv4Addr;

/// UDP port of DHCP servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;

const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
/// Hops that a packet may take; a relay on the link is the farthest that a broadcast goes.
const TTL: u8 = 64;

/// Why a packet is not a DHCP reply's carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than its headers say.
    Truncated,
    /// Not IPv4, or not UDP from port 67 to port 68.
    OtherProtocol,
    /// A fragment; DHCP messages come whole.
    Fragment,
    /// The IPv4 header's checksum is wrong.
    HeaderChecksum,
    /// The UDP checksum is wrong.
    Checksum,
}

/// Whether the UDP checksum of a received packet means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Verify it.
    Present,
    /// The sender is on this machine and left it to hardware that the packet never reached.
    Missing,
}

/// Wraps a DHCP message from client to server port into UDP and IPv4.
pub fn wrap(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(payload.len().saturating_add(UDP_HEADER)).unwrap_or(u16::MAX);
    let total = udp_len.saturating_add(20);
    let mut header = Vec::with_capacity(IPV4_HEADER);
    header.extend([0x45, 0]);
    header.extend(total.to_be_bytes());
    // Identification 0, not to be fragmented.
    header.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let checksum = finish(sum(0, &header));
    put_u16(&mut header, 10, checksum);

    let mut datagram = Vec::with_capacity(usize::from(udp_len));
    datagram.extend(CLIENT_PORT.to_be_bytes());
    datagram.extend(SERVER_PORT.to_be_bytes());
    datagram.extend(udp_len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    // A computed 0 is sent as its twin, since 0 means "no checksum".
    let checksum = match finish(sum(pseudo_header(source, destination, udp_len), &datagram)) {
        0 => 0xffff,
        other => other,
    };
    put_u16(&mut datagram, 6, checksum);
    header.extend(datagram);
    header
}

/// The DHCP message in a received IPv4 packet, once its headers and checksums have proved sound.
///
/// # Errors
/// What is wrong with the packet.
pub fn unwrap(packet: &[u8], checksum: Checksum) -> Result<&[u8], FrameError> {
    let first = *packet.first().ok_or(FrameError::Truncated)?;
    let header_len = usize::from(first & 0x0f).saturating_mul(4);
    if first >> 4 != 4 || header_len < IPV4_HEADER {
        return Err(FrameError::OtherProtocol);
    }
    let total = usize::from(be_u16(packet, 2).ok_or(FrameError::Truncated)?);
    // Ethernet pads short frames, so the packet ends where its header says.
    let packet = packet.get(..total).ok_or(FrameError::Truncated)?;
    let header = packet.get(..header_len).ok_or(FrameError::Truncated)?;
    if finish(sum(0, header)) != 0 {
        return Err(FrameError::HeaderChecksum);
    }
    if be_u16(header, 6).ok_or(FrameError::Truncated)? & 0x3fff != 0 {
        return Err(FrameError::Fragment);
    }
    if header.get(9) != Some(&UDP) {
        return Err(FrameError::OtherProtocol);
    }
    let addresses = sum(0, header.get(12..20).unwrap_or_default());
    udp_payload(
        packet.get(header_len..).unwrap_or_default(),
        addresses,
        checksum,
    )
}

fn udp_payload(rest: &[u8], addresses: u32, checksum: Checksum) -> Result<&[u8], FrameError> {
    let field = |offset| be_u16(rest, offset).ok_or(FrameError::Truncated);
    if (field(0)?, field(2)?) != (SERVER_PORT, CLIENT_PORT) {
        return Err(FrameError::OtherProtocol);
    }
    let len = field(4)?;
    let datagram = rest.get(..usize::from(len)).ok_or(FrameError::Truncated)?;
    let pseudo = addresses
        .saturating_add(u32::from(UDP))
        .saturating_add(u32::from(len));
    let verify = checksum == Checksum::Present && field(6)? != 0;
    if verify && finish(sum(pseudo, datagram)) != 0 {
        return Err(FrameError::Checksum);
    }
    datagram.get(UDP_HEADER..).ok_or(FrameError::Truncated)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, len: u16) -> u32 {
    let addresses = sum(sum(0, &source.octets()), &destination.octets());
    addresses
        .saturating_add(u32::from(UDP))
        .saturating_add(u32::from(len))
}

/// Adds `bytes` to a ones' complement sum; 64 KiB of them cannot overflow 32 bits.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |total, pair| {
        let high = pair.first().copied().unwrap_or_default();
        let low = pair.get(1).copied().unwrap_or_default();
        total.saturating_add(u32::from(u16::from_be_bytes([high, low])))
    })
}

fn finish(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff).saturating_add(total >> 16);
    }
    !u16::try_from(total).unwrap_or_default()
}

fn be_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    for (slot, byte) in bytes.iter_mut().skip(offset).zip(value.to_be_bytes()) {
        *slot = byte;
    }
}

/// What an ARP packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Asks who has the target address.
    Request,
    /// Says that the sender has the sender address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Hardware address of the sender.
    pub sender_mac: [u8; 6],
    /// Address of the sender; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// Address asked for, or told to.
    pub target: Ipv4Addr,
}

/// Hardware type Ethernet, protocol type IPv4, and their address lengths.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl Arp {
    /// A probe: does anyone use `address`? (RFC 5227 §2.1.1)
    pub fn probe(mac: [u8; 6], address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target: address,
        }
    }

    /// An announcement: `address` is ours. (RFC 5227 §2.3)
    pub fn announcement(mac: [u8; 6], address: Ipv4Addr) -> Self {
        Self {
            sender: address,
            ..Self::probe(mac, address)
        }
    }

    /// Reads a packet, if it is ARP for IPv4 over Ethernet.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let rest = packet.strip_prefix(&ARP_HEAD)?;
        let operation = match be_u16(rest, 0)? {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let address = |offset: usize| {
            let bytes: &[u8; 4] = rest.get(offset..)?.first_chunk()?;
            Some(Ipv4Addr::from(*bytes))
        };
        Some(Self {
            operation,
            sender_mac: *rest.get(2..)?.first_chunk()?,
            sender: address(8)?,
            target: address(18)?,
        })
    }

    /// The packet's bytes; the target's hardware address is left at zero.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = ARP_HEAD.to_vec();
        bytes.extend(match self.operation {
            Operation::Request => [0, 1],
            Operation::Reply => [0, 2],
        });
        bytes.extend(self.sender_mac);
        bytes.extend(self.sender.octets());
        bytes.extend([0; 6]);
        bytes.extend(self.target.octets());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);
    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// A reply: [`wrap`] with the ports swapped, which leaves the checksum as it is.
    fn reply(payload: &[u8]) -> Vec<u8> {
        let mut packet = wrap(SERVER, CLIENT, payload);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        for payload in [&b""[..], b"x", b"ab", b"odd"] {
            assert_eq!(unwrap(&reply(payload), Checksum::Present), Ok(payload));
        }
        let mut padded = reply(b"short");
        padded.extend([0; 18]);
        assert_eq!(unwrap(&padded, Checksum::Present), Ok(&b"short"[..]));
    }

    #[test]
    fn a_known_header_has_the_known_checksum() {
        let packet = wrap(Ipv4Addr::new(0, 0, 0, 0), Ipv4Addr::BROADCAST, &[0; 300]);
        // Computed by hand: 4500+0148+0000+4000+4011+ffff+ffff, folded and inverted.
        assert_eq!(packet[10..12], [0x39, 0xa6]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = reply(b"payload");
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                let verdict = unwrap(&bad, Checksum::Present);
                assert!(verdict.is_err(), "byte {index} bit {bit}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_missing_checksum_is_not_judged() {
        let mut packet = reply(b"payload");
        packet[26] ^= 0x55;
        assert_eq!(
            unwrap(&packet, Checksum::Present),
            Err(FrameError::Checksum)
        );
        assert_eq!(unwrap(&packet, Checksum::Missing), Ok(&b"payload"[..]));
        packet[26..28].copy_from_slice(&[0, 0]);
        assert_eq!(unwrap(&packet, Checksum::Present), Ok(&b"payload"[..]));
    }

    #[test]
    fn truncations_and_other_packets_are_refused() {
        let good = reply(b"payload");
        for end in 0..good.len() {
            assert!(unwrap(&good[..end], Checksum::Missing).is_err());
        }
        let from_elsewhere = wrap(SERVER, CLIENT, b"payload");
        assert_eq!(
            unwrap(&from_elsewhere, Checksum::Present),
            Err(FrameError::OtherProtocol)
        );
    }

    #[test]
    fn arp_round_trips_and_survives_truncation() {
        let probe = Arp::probe([2, 0, 0, 0, 0, 1], CLIENT);
        let bytes = probe.encode();
        assert_eq!(Arp::decode(&bytes), Some(probe));
        let announcement = Arp::announcement([2, 0, 0, 0, 0, 1], CLIENT);
        assert_eq!(Arp::decode(&announcement.encode()), Some(announcement));
        for end in 0..bytes.len() {
            assert_eq!(Arp::decode(&bytes[..end]), None);
        }
    }
}
