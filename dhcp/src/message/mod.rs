//! DHCP messages as our own types, to and from bytes (RFC 2131, 2132, 3396); pure, and the only module that names
//! dhcproto.
//!
//! dhcproto splits options and knows their primitives.
//! Three things are done around it: an option's parts are joined wherever they stand (RFC 3396, RFC 2131 §4.1 for
//! `sname` and `file`), one malformed option does not spoil its neighbours, and codes that its table has wrong (108
//! stands there as 106) are read as raw bytes.

mod options;
pub mod v6;

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::borrowed::Message;
use dhcproto::v4::{DhcpOption, OptionCode};
use dhcproto::{Encodable, Encoder};

use self::options::Options;
use crate::terms::{self, Terms};

/// Length of the fixed part with the magic.
const FIXED: usize = 240;
/// BOOTP relays may drop shorter messages (RFC 1542 §2.1).
const SHORTEST: usize = 300;
/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who gives addresses?
    Discover,
    /// I ask for this one, or to keep it.
    Request,
    /// It is in use already.
    Decline,
    /// I no longer need it.
    Release,
}

/// A message to servers, but for what is the same in all of them ([`Identity`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it says.
    pub kind: Kind,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the attempt began.
    pub secs: u16,
    /// The address in use; unspecified if there is none.
    pub client: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
}

/// How a client presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Option 61, with its type byte.
    pub client_id: Vec<u8>,
    /// Option 12.
    pub hostname: Option<String>,
    /// Option 55.
    pub wanted: Vec<u8>,
    /// Option 57, in bytes; absent to leave it out.
    pub longest: Option<u16>,
    /// Option 80 in what discovers.
    pub rapid_commit: bool,
    /// The flag that asks for replies by broadcast.
    pub broadcast: bool,
    /// Options by their numbers, since any other order tells clients apart (RFC 7844 §3.1).
    pub in_order: bool,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An offer.
    Offer(Box<Terms>),
    /// A grant.
    Ack(Box<Terms>),
    /// A refusal.
    Nak,
}

/// A reply to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Transaction id.
    pub xid: u32,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// What it says.
    pub answer: Answer,
    /// Option 80.
    pub rapid_commit: bool,
    /// Option 108: how long to do without IPv4 (RFC 8925).
    pub ipv6_only: Option<Duration>,
}

/// Why a message is not a reply to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Shorter than a message, or an option runs over its end.
    Truncated,
    /// Not a reply over Ethernet with DHCP's magic.
    NotReply,
    /// For other hardware.
    OtherHardware,
    /// It echoes another client's identifier (RFC 6842).
    OtherClient,
    /// No message type that a server sends.
    NoType,
    /// No server identifier, or an impossible one.
    NoServer,
    /// An address that no host can have, or a lease of no length.
    BadTerms,
}

/// The bytes of a message.
pub fn encode(request: &Request, identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SHORTEST);
    // Writing to a growing vector does not fail; if it ever did, the message would be dropped by its receiver.
    let _ = write(&mut bytes, request, identity);
    if bytes.len() < SHORTEST {
        bytes.resize(SHORTEST, 0);
    }
    bytes
}

fn write(
    bytes: &mut Vec<u8>,
    request: &Request,
    identity: &Identity,
) -> dhcproto::error::EncodeResult<()> {
    let encoder = &mut Encoder::new(bytes);
    // Boot request over Ethernet, six bytes of hardware address, no hops.
    encoder.write([1, 1, 6, 0])?;
    encoder.write_u32(request.xid)?;
    encoder.write_u16(request.secs)?;
    // Nothing answers the other two.
    let is_answered = matches!(request.kind, Kind::Discover | Kind::Request);
    let flags = match identity.broadcast && is_answered {
        true => 0x8000,
        false => 0,
    };
    encoder.write_u16(flags)?;
    encoder.write_u32(request.client.into())?;
    encoder.write([0; 12])?;
    encoder.write(identity.mac)?;
    encoder.write([0; 10 + 64 + 128])?;
    encoder.write(dhcproto::v4::MAGIC)?;
    for option in options(request, identity) {
        option.encode(encoder)?;
    }
    DhcpOption::End.encode(encoder)
}

/// The options of a message: RFC 2131 table 5.
fn options(request: &Request, identity: &Identity) -> Vec<DhcpOption> {
    use dhcproto::v4::MessageType as Type;
    let asks = matches!(request.kind, Kind::Discover | Kind::Request);
    let mut options = vec![
        DhcpOption::MessageType(match request.kind {
            Kind::Discover => Type::Discover,
            Kind::Request => Type::Request,
            Kind::Decline => Type::Decline,
            Kind::Release => Type::Release,
        }),
        DhcpOption::ClientIdentifier(identity.client_id.clone()),
    ];
    options.extend(request.requested.map(DhcpOption::RequestedIpAddress));
    options.extend(request.server.map(DhcpOption::ServerIdentifier));
    if asks {
        options.extend(identity.longest.map(DhcpOption::MaxMessageSize));
        let wanted = identity.wanted.iter().copied().map(OptionCode::from);
        options.push(DhcpOption::ParameterRequestList(wanted.collect()));
        options.extend(identity.hostname.clone().map(DhcpOption::Hostname));
    }
    if identity.rapid_commit && request.kind == Kind::Discover {
        options.push(DhcpOption::RapidCommit);
    }
    if identity.in_order {
        options.sort_by_key(|option| u8::from(OptionCode::from(option)));
    }
    options
}

/// Reads a reply to the client of `identity`.
///
/// # Errors
/// Why it is not one.
pub fn decode(
    bytes: &[u8],
    identity: &Identity,
    routes: ClasslessRoutes,
) -> Result<Reply, Rejection> {
    let message = Message::new(bytes).map_err(|_| Rejection::Truncated)?;
    // The header is judged by its bytes: dhcproto would index by the sender's hardware length.
    let (head, magic) = (bytes.get(..3), bytes.get(FIXED.saturating_sub(4)..FIXED));
    if head != Some(&[2, 1, 6]) || magic != Some(&dhcproto::v4::MAGIC) {
        return Err(Rejection::NotReply);
    }
    if bytes.get(28..34) != Some(&identity.mac) {
        return Err(Rejection::OtherHardware);
    }
    let options = Options::collect(bytes)?;
    let echoed = options.raw(61);
    if echoed.is_some_and(|id| id != identity.client_id) {
        return Err(Rejection::OtherClient);
    }
    let server = options
        .address(54)
        .filter(|server| terms::is_unicast(*server));
    let server = server.ok_or(Rejection::NoServer)?;
    let answer = match options.raw(53) {
        Some([2]) => Answer::Offer(Box::new(options.terms(message.yiaddr(), server, routes)?)),
        Some([5]) => Answer::Ack(Box::new(options.terms(message.yiaddr(), server, routes)?)),
        Some([6]) => Answer::Nak,
        Some(_) | None => return Err(Rejection::NoType),
    };
    Ok(Reply {
        xid: message.xid(),
        server,
        answer,
        rapid_commit: options.raw(80).is_some(),
        ipv6_only: options.seconds(108),
    })
}

/// Whether option 121 is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClasslessRoutes {
    /// Yes, in place of options 3 and 33 (RFC 3442).
    Accept,
    /// No: such routes can draw traffic off a tunnel.
    Ignore,
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
