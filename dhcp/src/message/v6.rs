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
    /// The address, if there is one and nothing speaks against it.
    pub granted: Option<Granted>,
    /// DNS servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search list.
    pub search: Vec<String>,
    /// When to ask for settings again, in seconds.
    pub refresh: Option<u32>,
}

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
    if !matches!(request.kind, Kind::Release | Kind::Decline) {
        let mut wanted = vec![OptionCode::DomainNameServers, OptionCode::DomainSearchList];
        wanted.push(match request.kind {
            Kind::Information => OptionCode::InformationRefreshTime,
            _ => OptionCode::SolMaxRt,
        });
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
    let failed = payload(13).is_some_and(is_failure);
    let granted = options.iter().filter(|(code, _)| *code == 3 && !failed);
    let granted = granted
        .filter_map(|(_, payload)| association(payload, identity.iaid))
        .next();
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
        refresh: payload(32).and_then(|raw| Decoder::new(raw).read_u32().ok()),
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

/// A status code other than success (RFC 8415 §21.13).
fn is_failure(payload: &[u8]) -> bool {
    payload.first_chunk() != Some(&[0, 0])
}

/// The first sound address of our identity association (RFC 8415 §21.4, §21.6).
fn association(payload: &[u8], iaid: u32) -> Option<Granted> {
    let mut decoder = Decoder::new(payload);
    let ours = decoder.read_u32().ok()? == iaid;
    let (t1, t2) = (decoder.read_u32().ok()?, decoder.read_u32().ok()?);
    let options = split(decoder.buffer())?;
    let failed = options
        .iter()
        .any(|(code, payload)| *code == 13 && is_failure(payload));
    // T1 beyond T2 makes the whole association void.
    if !ours || failed || (t1 > t2 && t2 > 0) {
        return None;
    }
    let addresses = options.iter().filter(|(code, _)| *code == 5);
    addresses
        .filter_map(|(_, payload)| address(payload, t1, t2))
        .next()
}

fn address(payload: &[u8], t1: u32, t2: u32) -> Option<Granted> {
    let mut decoder = Decoder::new(payload);
    let address = Ipv6Addr::from(decoder.read::<16>().ok()?);
    let preferred = decoder.read_u32().ok()?;
    let valid = decoder.read_u32().ok()?;
    let failed = split(decoder.buffer())?;
    let failed = failed
        .iter()
        .any(|(code, payload)| *code == 13 && is_failure(payload));
    let usable = !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local();
    (usable && !failed && valid > 0 && preferred <= valid).then_some(Granted {
        address,
        preferred,
        valid,
        t1,
        t2,
    })
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

    fn granted(options: &[Vec<u8>]) -> Option<Granted> {
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
        assert_eq!(granted(&[grant(7, [100, 200, 300, 600])]), Some(want));
    }

    #[test]
    fn void_grants_are_not() {
        assert_eq!(granted(&[grant(8, [100, 200, 300, 600])]), None);
        assert_eq!(granted(&[grant(7, [200, 100, 300, 600])]), None);
        assert_eq!(granted(&[grant(7, [0, 0, 300, 0])]), None);
        assert_eq!(granted(&[grant(7, [0, 0, 900, 600])]), None);
        assert_eq!(
            granted(&[grant(7, [0, 0, 300, 600]), option(13, &[0, 2])]),
            None
        );
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
