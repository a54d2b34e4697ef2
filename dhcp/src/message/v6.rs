//! DHCPv6 messages as our own types, to and from bytes (RFC 8415); pure.
//!
//! dhcproto encodes, and reads primitives.
//! Its decoder for whole messages is left aside: it trusts inner lengths, and descends into options within options
//! as deep as a sender likes.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, MessageType, ORO, OptionCode};
use dhcproto::{Decoder, Encodable, Encoder};

use crate::names;

/// Most servers and names that we carry on.
const MOST: usize = 8;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who gives addresses?
    Solicit,
    /// I ask for this one.
    Request,
    /// I ask its server for more time.
    Renew,
    /// I ask any server for more time.
    Rebind,
    /// I no longer need it.
    Release,
    /// It is in use already.
    Decline,
    /// I ask for settings alone.
    Information,
    /// Is this one still good on this link?
    Confirm,
}

/// A message to servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it says.
    pub kind: Kind,
    /// Transaction id.
    pub xid: [u8; 3],
    /// Hundredths of a second since the exchange began.
    pub elapsed: u16,
    /// DUID of the server that it is for.
    pub server: Option<Vec<u8>>,
    /// The address that it is about.
    pub address: Option<Ipv6Addr>,
}

/// How a client presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// DUID.
    pub duid: Vec<u8>,
    /// Identifies the interface.
    pub iaid: u32,
}

/// An address that is offered or granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The address.
    pub address: Ipv6Addr,
    /// Preferred lifetime in seconds.
    pub preferred: u32,
    /// Valid lifetime in seconds, not 0.
    pub valid: u32,
    /// T1 in seconds; 0 leaves it to the client.
    pub t1: u32,
    /// T2 in seconds; 0 leaves it to the client.
    pub t2: u32,
}

/// A server's message to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// An offer; otherwise a reply.
    pub is_advertisement: bool,
    /// Transaction id.
    pub xid: [u8; 3],
    /// DUID of the server.
    pub server: Vec<u8>,
    /// How much the server wants to be chosen.
    pub preference: u8,
    /// The address, or what speaks against it.
    pub granted: Result<Granted, Refusal>,
    /// DNS servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search list.
    pub search: Vec<String>,
    /// When to ask for settings again, in seconds.
    pub refresh: Option<u32>,
    /// `SOL_MAX_RT`, the longest wait between two Solicits, in seconds, within the RFC's bounds.
    pub solicit_most: Option<u32>,
    /// `INF_MAX_RT`, likewise between two Information-requests.
    pub inform_most: Option<u32>,
}

/// Why a server's message gives no address (RFC 8415 §21.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not speak of addresses.
    Absent,
    /// The server knows of no address that we have.
    NoBinding,
    /// What we have, or want, is not good on this link.
    NotOnLink,
    /// The address that we have ends now.
    Over,
    /// Any other failure, or an answer that makes no sense.
    Other,
}

/// Bounds of `SOL_MAX_RT` and `INF_MAX_RT` in seconds; others are ignored (RFC 8415 §21.24, §21.25).
const LONGEST_WAITS: std::ops::RangeInclusive<u32> = 60..=86_400;

/// The bytes of a message.
pub fn encode(request: &Request, identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    // Writing to a growing vector does not fail; if it ever did, the message would be dropped by its receiver.
    let _ = write(&mut bytes, request, identity);
    bytes
}

fn write(
    bytes: &mut Vec<u8>,
    request: &Request,
    identity: &Identity,
) -> dhcproto::error::EncodeResult<()> {
    let encoder = &mut Encoder::new(bytes);
    encoder.write_u8(u8::from(match request.kind {
        Kind::Solicit => MessageType::Solicit,
        Kind::Request => MessageType::Request,
        Kind::Renew => MessageType::Renew,
        Kind::Rebind => MessageType::Rebind,
        Kind::Release => MessageType::Release,
        Kind::Decline => MessageType::Decline,
        Kind::Information => MessageType::InformationRequest,
        Kind::Confirm => MessageType::Confirm,
    }))?;
    encoder.write(request.xid)?;
    for option in options(request, identity) {
        option.encode(encoder)?;
    }
    Ok(())
}

fn options(request: &Request, identity: &Identity) -> Vec<DhcpOption> {
    let mut options = vec![DhcpOption::ClientId(identity.duid.clone())];
    options.extend(request.server.clone().map(DhcpOption::ServerId));
    options.push(DhcpOption::ElapsedTime(request.elapsed));
    if request.kind != Kind::Information {
        let address = request.address.map(|addr| {
            DhcpOption::IAAddr(IAAddr {
                addr,
                preferred_life: 0,
                valid_life: 0,
                opts: DhcpOptions::new(),
            })
        });
        options.push(DhcpOption::IANA(IANA {
            id: identity.iaid,
            t1: 0,
            t2: 0,
            opts: address.into_iter().collect(),
        }));
    }
    // Nothing is asked for with these (RFC 8415 §18.2.3, §18.2.7, §18.2.8).
    if !matches!(request.kind, Kind::Release | Kind::Decline | Kind::Confirm) {
        let mut wanted = vec![OptionCode::DomainNameServers, OptionCode::DomainSearchList];
        match request.kind {
            Kind::Information => {
                wanted.extend([OptionCode::InformationRefreshTime, OptionCode::InfMaxRt]);
            }
            _ => wanted.push(OptionCode::SolMaxRt),
        }
        options.push(DhcpOption::ORO(ORO { opts: wanted }));
    }
    options
}

/// Reads a server's message to the client of `identity`; nothing if it is not one, or not whole.
pub fn decode(bytes: &[u8], identity: &Identity) -> Option<Reply> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk()?;
    let is_advertisement = match kind {
        2 => true,
        7 => false,
        _ => return None,
    };
    let options = split(rest)?;
    let get = |wanted: u16| options.iter().find(|(code, _)| *code == wanted);
    let payload = |wanted: u16| get(wanted).map(|(_, payload)| *payload);
    let server = payload(2).filter(|server| !server.is_empty() && server.len() <= 130)?;
    if payload(1) != Some(&identity.duid) {
        return None;
    }
    let associations = options.iter().filter(|(code, _)| *code == 3);
    let association = associations
        .filter_map(|(_, payload)| association(payload, identity.iaid))
        .next();
    let granted = match payload(13).and_then(failure) {
        Some(refusal) => Err(refusal),
        None => association.unwrap_or(Err(Refusal::Absent)),
    };
    let number = |wanted: u16| payload(wanted).and_then(|raw| Decoder::new(raw).read_u32().ok());
    let longest_wait = |wanted| number(wanted).filter(|most| LONGEST_WAITS.contains(most));
    let dns = payload(23).map(|raw| Decoder::new(raw).read_ipv6s(raw.len()).unwrap_or_default());
    let mut dns = dns.unwrap_or_default();
    dns.retain(|server| {
        !server.is_multicast() && !server.is_unspecified() && !server.is_loopback()
    });
    dns.truncate(MOST);
    Some(Reply {
        is_advertisement,
        xid: [a, b, c],
        server: server.to_vec(),
        preference: payload(7)
            .and_then(|raw| raw.first().copied())
            .unwrap_or_default(),
        granted,
        dns,
        search: payload(24).map(search).unwrap_or_default(),
        refresh: number(32),
        solicit_most: longest_wait(82),
        inform_most: longest_wait(83),
    })
}

/// Options as code and payload; nothing if one runs over the end.
fn split(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut options = Vec::new();
    let mut decoder = Decoder::new(bytes);
    while !decoder.buffer().is_empty() {
        let code = decoder.read_u16().ok()?;
        let len = decoder.read_u16().ok()?;
        options.push((code, decoder.read_slice(usize::from(len)).ok()?));
    }
    Some(options)
}

/// What a status code other than success means (RFC 8415 §21.13).
fn failure(payload: &[u8]) -> Option<Refusal> {
    match payload.first_chunk() {
        Some([0, 0]) => None,
        Some([0, 3]) => Some(Refusal::NoBinding),
        Some([0, 4]) => Some(Refusal::NotOnLink),
        Some(_) | None => Some(Refusal::Other),
    }
}

/// The first sound address of an identity association (RFC 8415 §21.4, §21.6), or what speaks against it; nothing if
/// the association is not ours, or to be passed over.
fn association(payload: &[u8], iaid: u32) -> Option<Result<Granted, Refusal>> {
    let mut decoder = Decoder::new(payload);
    let ours = decoder.read_u32().ok()? == iaid;
    let (t1, t2) = (decoder.read_u32().ok()?, decoder.read_u32().ok()?);
    let options = split(decoder.buffer())?;
    // T1 beyond T2 makes the whole association void.
    if !ours || (t1 > t2 && t2 > 0) {
        return None;
    }
    let status = options.iter().find(|(code, _)| *code == 13);
    if let Some(refusal) = status.and_then(|(_, payload)| failure(payload)) {
        return Some(Err(refusal));
    }
    let addresses = options.iter().filter(|(code, _)| *code == 5);
    let mut outcome = Err(Refusal::Other);
    for (_, payload) in addresses {
        match address(payload, t1, t2) {
            // A renewal can end one address and give another.
            Some(Ok(granted)) => return Some(Ok(granted)),
            Some(refused) if outcome == Err(Refusal::Other) => outcome = refused,
            Some(_) | None => {}
        }
    }
    Some(outcome)
}

/// One address; nothing if the option is not whole.
fn address(payload: &[u8], t1: u32, t2: u32) -> Option<Result<Granted, Refusal>> {
    let mut decoder = Decoder::new(payload);
    let address = Ipv6Addr::from(decoder.read::<16>().ok()?);
    let preferred = decoder.read_u32().ok()?;
    let valid = decoder.read_u32().ok()?;
    let options = split(decoder.buffer())?;
    let status = options.iter().find(|(code, _)| *code == 13);
    if let Some(refusal) = status.and_then(|(_, payload)| failure(payload)) {
        return Some(Err(refusal));
    }
    let usable = !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local();
    if !usable || preferred > valid {
        return Some(Err(Refusal::Other));
    }
    if valid == 0 {
        return Some(Err(Refusal::Over));
    }
    Some(Ok(Granted {
        address,
        preferred,
        valid,
        t1,
        t2,
    }))
}

fn search(raw: &[u8]) -> Vec<String> {
    let decoded = Decoder::new(raw)
        .read_domains(raw.len())
        .unwrap_or_default();
    let names = decoded.iter().take(MOST);
    names
        .filter_map(|name| names::domain(name.to_ascii().as_bytes()))
        .collect()
}

/// Reads a client's message, for tests that play the server; type, transaction id and option codes.
#[cfg(test)]
pub(crate) fn read_back(bytes: &[u8]) -> Option<dhcproto::v6::Message> {
    use dhcproto::Decodable;
    dhcproto::v6::Message::decode(&mut Decoder::new(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 7],
            iaid: 7,
        }
    }

    fn option(code: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = code.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn grant(iaid: u32, times: [u32; 4]) -> Vec<u8> {
        let [t1, t2, preferred, valid] = times;
        let mut inner = "2001:db8::17"
            .parse::<Ipv6Addr>()
            .unwrap()
            .octets()
            .to_vec();
        inner.extend([preferred.to_be_bytes(), valid.to_be_bytes()].concat());
        let mut payload = [iaid.to_be_bytes(), t1.to_be_bytes(), t2.to_be_bytes()].concat();
        payload.extend(option(5, &inner));
        option(3, &payload)
    }

    fn reply(options: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![7, 1, 2, 3];
        bytes.extend(option(1, &identity().duid));
        bytes.extend(option(2, &[0, 1, 9, 9]));
        bytes.extend(options.concat());
        bytes
    }

    fn granted(options: &[Vec<u8>]) -> Result<Granted, Refusal> {
        decode(&reply(options), &identity()).unwrap().granted
    }

    #[test]
    fn requests_carry_what_the_rfc_demands() {
        let request = Request {
            kind: Kind::Request,
            xid: [1, 2, 3],
            elapsed: 150,
            server: Some(vec![9, 9]),
            address: "2001:db8::17".parse().ok(),
        };
        let message = read_back(&encode(&request, &identity())).unwrap();
        assert_eq!(
            (message.msg_type(), message.xid()),
            (MessageType::Request, [1, 2, 3])
        );
        let codes: Vec<u16> = message
            .opts()
            .iter()
            .map(|option| OptionCode::from(option).into())
            .collect();
        assert_eq!(codes, [1, 2, 3, 6, 8]);
        assert_eq!(wanted(&message), [23, 24, 82]);
        let ask = Request {
            kind: Kind::Information,
            server: None,
            address: None,
            ..request
        };
        let message = read_back(&encode(&ask, &identity())).unwrap();
        let codes: Vec<u16> = message
            .opts()
            .iter()
            .map(|option| OptionCode::from(option).into())
            .collect();
        assert_eq!(codes, [1, 6, 8]);
        assert_eq!(wanted(&message), [23, 24, 32, 83]);
    }

    fn wanted(message: &dhcproto::v6::Message) -> Vec<u16> {
        let list = message.opts().iter().find_map(|option| match option {
            DhcpOption::ORO(list) => Some(list.opts.iter().map(|code| u16::from(*code))),
            _ => None,
        });
        list.into_iter().flatten().collect()
    }

    #[test]
    fn a_grant_is_read() {
        let want = Granted {
            address: "2001:db8::17".parse().unwrap(),
            preferred: 300,
            valid: 600,
            t1: 100,
            t2: 200,
        };
        assert_eq!(granted(&[grant(7, [100, 200, 300, 600])]), Ok(want));
    }

    #[test]
    fn void_grants_are_not() {
        let good = || grant(7, [100, 200, 300, 600]);
        let refusal = |options: &[Vec<u8>]| granted(options).unwrap_err();
        assert_eq!(refusal(&[]), Refusal::Absent);
        assert_eq!(refusal(&[grant(8, [100, 200, 300, 600])]), Refusal::Absent);
        assert_eq!(refusal(&[grant(7, [200, 100, 300, 600])]), Refusal::Absent);
        assert_eq!(refusal(&[grant(7, [0, 0, 0, 0])]), Refusal::Over);
        assert_eq!(refusal(&[grant(7, [0, 0, 900, 600])]), Refusal::Other);
        for (code, want) in [
            (1, Refusal::Other),
            (2, Refusal::Other),
            (3, Refusal::NoBinding),
            (4, Refusal::NotOnLink),
            (5, Refusal::Other),
        ] {
            assert_eq!(refusal(&[good(), option(13, &[0, code])]), want);
            let inner = option(13, &[0, code, b'n', b'o']);
            let association = [&[0, 0, 0, 7][..], &[0; 8], &inner].concat();
            assert_eq!(refusal(&[option(3, &association)]), want);
        }
        assert!(granted(&[good(), option(13, &[0, 0])]).is_ok());
    }

    #[test]
    fn one_address_may_end_where_another_begins() {
        let mut two = grant(7, [0, 0, 0, 0]);
        let new = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[9]].concat();
        let new = option(5, &[new, vec![0, 0, 1, 0, 0, 0, 1, 0]].concat());
        two.extend(new);
        let len = u16::try_from(two.len() - 4).unwrap().to_be_bytes();
        two[2..4].copy_from_slice(&len);
        let granted = granted(&[two]).unwrap();
        assert_eq!(granted.address, "2001:db8::9".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn longest_waits_are_taken_within_their_bounds() {
        for (seconds, want) in [
            (59, None),
            (60, Some(60)),
            (86_400, Some(86_400)),
            (86_401, None),
        ] {
            let raw = u32::to_be_bytes(seconds);
            let bytes = reply(&[option(82, &raw), option(83, &raw), option(13, &[0, 2])]);
            let reply = decode(&bytes, &identity()).unwrap();
            assert_eq!((reply.solicit_most, reply.inform_most), (want, want));
        }
    }

    #[test]
    fn settings_are_read_and_checked() {
        let server = "2001:db8::53".parse::<Ipv6Addr>().unwrap();
        let reply = reply(&[
            option(23, &server.octets()),
            option(24, b"\x07example\x03org\x00\x04a\nb \x00"),
            option(32, &[0, 0, 14, 16]),
            option(7, &[255]),
        ]);
        let reply = decode(&reply, &identity()).unwrap();
        assert_eq!(
            (reply.dns, reply.search),
            (vec![server], vec!["example.org".to_owned()])
        );
        assert_eq!((reply.refresh, reply.preference), (Some(3600), 255));
    }

    #[test]
    fn every_truncation_and_other_clients_are_refused() {
        let good = reply(&[grant(7, [100, 200, 300, 600]), option(23, &[0; 16])]);
        for end in 0..good.len() {
            if let Some(reply) = decode(&good[..end], &identity()) {
                assert!(reply.dns.is_empty());
            }
        }
        let mut other = identity();
        other.duid[9] = 8;
        assert_eq!(decode(&good, &other), None);
        for code in 0..100_u16 {
            for len in 0..40 {
                let _ = decode(&reply(&[option(code, &vec![0xc0; len])]), &identity());
                let _ = decode(&reply(&[option(code, &vec![0; len])]), &identity());
            }
        }
    }
}
