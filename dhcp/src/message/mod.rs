//! DHCP messages as our own types, to and from bytes (RFC 2131, 2132, 3396); pure, and the only module that names
//! dhcproto.
//!
//! dhcproto splits options and knows their primitives.
//! Three things are done around it: an option's parts are joined wherever they stand (RFC 3396, RFC 2131 §4.1 for
//! `sname` and `file`), one malformed option does not spoil its neighbours, and codes that its table has wrong (108
//! stands there as 106) are read as raw bytes.

pub mod v6;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{DhcpOption, OptionCode};
use dhcproto::{Decoder, Encodable, Encoder};
use gokrazy_core::lease::Route;

use crate::names;
use crate::terms::{self, Terms};

/// Length of the fixed part with the magic.
const FIXED: usize = 240;
/// BOOTP relays may drop shorter messages (RFC 1542 §2.1).
const SHORTEST: usize = 300;
/// Most names, servers or routers that we carry on from one option.
const MOST: usize = 16;
/// Most routes.
const MOST_ROUTES: usize = 64;

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
    encoder.write_u16(if identity.broadcast { 0x8000 } else { 0 })?;
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

/// Options by code, their parts joined.
struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    fn collect(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut joined = Self(BTreeMap::new());
        joined.add(bytes.get(FIXED..).unwrap_or_default())?;
        // Option 52: `file` is read first, then `sname` (RFC 2131 §4.1).
        let overload = match joined.raw(52) {
            Some([value]) => *value,
            Some(_) | None => 0,
        };
        if overload & 1 != 0 {
            joined.add(bytes.get(108..236).unwrap_or_default())?;
        }
        if overload & 2 != 0 {
            joined.add(bytes.get(44..108).unwrap_or_default())?;
        }
        Ok(joined)
    }

    fn add(&mut self, field: &[u8]) -> Result<(), Rejection> {
        if !is_whole(field) {
            return Err(Rejection::Truncated);
        }
        for option in DhcpOptionIterator::new(field) {
            let code = u8::from(option.code());
            self.0.entry(code).or_default().extend(option.data());
        }
        Ok(())
    }

    fn raw(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let raw = self.raw(code)?;
        Decoder::new(raw).read_ipv4(raw.len()).ok()
    }

    /// A list of addresses that packets can be sent to; none if the option's length is not a multiple of four.
    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let raw = self.raw(code).unwrap_or_default();
        let mut all = Decoder::new(raw).read_ipv4s(raw.len()).unwrap_or_default();
        let mut seen = Vec::new();
        all.retain(|address| {
            let keep = terms::is_unicast(*address) && !seen.contains(address);
            seen.push(*address);
            keep
        });
        all.truncate(MOST);
        all
    }

    fn number(&self, code: u8) -> Option<u32> {
        let raw: &[u8; 4] = self.raw(code)?.try_into().ok()?;
        Some(u32::from_be_bytes(*raw))
    }

    fn seconds(&self, code: u8) -> Option<Duration> {
        self.number(code).map(u64::from).map(Duration::from_secs)
    }

    fn terms(
        &self,
        address: Ipv4Addr,
        server: Ipv4Addr,
        accept: ClasslessRoutes,
    ) -> Result<Terms, Rejection> {
        let prefix = self.address(1).and_then(terms::prefix_of);
        let prefix = prefix.unwrap_or_else(|| terms::class_prefix(address));
        let lease = match self.number(51) {
            Some(0) => return Err(Rejection::BadTerms),
            Some(terms::INFINITE) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
            None => Some(terms::DEFAULT_LEASE),
        };
        if !terms::is_host(address, prefix) {
            return Err(Rejection::BadTerms);
        }
        let (routers, routes) = self.routes(address, accept);
        let (domain, search) = self.names();
        Ok(Terms {
            address,
            prefix,
            broadcast: terms::broadcast_of(address, prefix, self.address(28)),
            routers,
            routes,
            dns: self.addresses(6),
            domain,
            search,
            ntp: self.addresses(42),
            mtu: self.mtu(),
            hostname: self.raw(12).and_then(names::domain),
            captive_portal: self.raw(114).and_then(names::uri),
            server,
            lease,
            t1: self.seconds(58),
            t2: self.seconds(59),
        })
    }

    /// RFC 2132 §5.1 allows no less than 68.
    fn mtu(&self) -> Option<u16> {
        let raw: &[u8; 2] = self.raw(26)?.try_into().ok()?;
        Some(u16::from_be_bytes(*raw)).filter(|mtu| *mtu >= 68)
    }

    /// Domain and search list: options 15 and 119 (RFC 3397).
    fn names(&self) -> (Option<String>, Vec<String>) {
        let mut listed = self.raw(15).and_then(names::domains).unwrap_or_default();
        let mut search = self.search();
        let domain = (!listed.is_empty()).then(|| listed.remove(0));
        if search.is_empty() && !listed.is_empty() {
            search.extend(domain.clone());
            search.extend(listed);
            search.truncate(MOST);
        }
        (domain, search)
    }

    fn search(&self) -> Vec<String> {
        let raw = self.raw(119).unwrap_or_default();
        // A name is cut short by a pointer that leads nowhere; those before it stand.
        let decoded = Decoder::new(raw)
            .read_domains(raw.len())
            .unwrap_or_default();
        let mut search = Vec::new();
        for name in decoded.iter().take(MOST) {
            let name = names::domain(name.to_ascii().as_bytes());
            if let Some(name) = name.filter(|name| !search.contains(name)) {
                search.push(name);
            }
        }
        search
    }

    /// Default routers and other routes: option 121 if there is a sound one, else 3 and 33.
    fn routes(&self, address: Ipv4Addr, accept: ClasslessRoutes) -> (Vec<Ipv4Addr>, Vec<Route>) {
        let classless = match accept {
            ClasslessRoutes::Accept => self.raw(121).and_then(classless_routes),
            ClasslessRoutes::Ignore => None,
        };
        let Some(all) = classless else {
            let mut routers = self.addresses(3);
            routers.retain(|router| *router != address);
            return (routers, self.classful_routes());
        };
        let (defaults, routes): (Vec<Route>, Vec<Route>) =
            all.into_iter().partition(|route| route.prefix == 0);
        let routers = defaults.iter().map(|route| route.gateway);
        (routers.take(MOST).collect(), routes)
    }

    /// Option 33 (RFC 2132 §5.8): pairs of a destination, whose class gives the mask, and a router.
    fn classful_routes(&self) -> Vec<Route> {
        let raw = self.raw(33).unwrap_or_default();
        let pairs = Decoder::new(raw).read_pair_ipv4s(raw.len());
        let pairs = pairs.unwrap_or_default().into_iter();
        pairs
            .filter(|(to, via)| terms::is_unicast(*to) && terms::is_unicast(*via))
            .map(|(destination, gateway)| {
                let class = terms::class_prefix(destination);
                let is_network = u32::from(destination) & !terms::mask_of(class) == 0;
                let prefix = if is_network { class } else { 32 };
                Route {
                    destination,
                    prefix,
                    gateway,
                }
            })
            .take(MOST_ROUTES)
            .collect()
    }
}

/// Whether the options in `field` end with it, or with the end option, and not in the middle of one.
fn is_whole(field: &[u8]) -> bool {
    let mut rest = field;
    loop {
        rest = match rest {
            [] | [255, ..] => return true,
            [0, after @ ..] => after,
            [_] => return false,
            [_, len, after @ ..] => match after.get(usize::from(*len)..) {
                Some(after) => after,
                None => return false,
            },
        }
    }
}

/// Option 121 (RFC 3442): width, significant octets of the destination, router; nothing if any of it is unsound.
fn classless_routes(raw: &[u8]) -> Option<Vec<Route>> {
    let mut decoder = Decoder::new(raw);
    let mut routes = Vec::new();
    while let Ok(prefix) = decoder.read_u8() {
        if prefix > 32 {
            return None;
        }
        let significant = decoder.read_slice(usize::from(prefix.div_ceil(8))).ok()?;
        let mut octets = [0; 4];
        for (slot, octet) in octets.iter_mut().zip(significant) {
            *slot = *octet;
        }
        let destination = Ipv4Addr::from(u32::from_be_bytes(octets) & terms::mask_of(prefix));
        let gateway = decoder.read_ipv4(4).ok()?;
        let route = Route {
            destination,
            prefix,
            gateway,
        };
        let reachable = prefix == 0 || terms::is_unicast(destination);
        let via = gateway.is_unspecified() || terms::is_unicast(gateway);
        if reachable && via && !routes.contains(&route) && routes.len() < MOST_ROUTES {
            routes.push(route);
        }
    }
    (!raw.is_empty()).then_some(routes)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
