//! The options of a reply, joined, read and checked (RFC 2131 §4.1, 2132, 3396, 3397, 3442); pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::Decoder;
use dhcproto::v4::borrowed::DhcpOptionIterator;
use gokrazy_core::lease::{Ipv4, Route};

use super::{ClasslessRoutes, FIXED, Rejection, SHORTEST};
use crate::names;
use crate::terms::{self, Terms};

/// Most names, servers or routers that we carry on from one option.
pub(super) const MOST: usize = 16;
/// Most routes.
const MOST_ROUTES: usize = 64;

/// Options by code, their parts joined.
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    pub(super) fn collect(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut joined = Self(BTreeMap::new());
        let extent = joined.add(bytes.get(FIXED..).unwrap_or_default())?;
        // An end option is a must (RFC 2131 §4.1), which some servers forget; but what is also shorter than servers
        // send was cut between two options.
        if extent == Extent::Open && bytes.len() < SHORTEST {
            return Err(Rejection::Truncated);
        }
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

    fn add(&mut self, field: &[u8]) -> Result<Extent, Rejection> {
        let extent = extent(field).ok_or(Rejection::Truncated)?;
        for option in DhcpOptionIterator::new(field) {
            let code = u8::from(option.code());
            self.0.entry(code).or_default().extend(option.data());
        }
        Ok(extent)
    }

    pub(super) fn raw(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
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

    pub(super) fn seconds(&self, code: u8) -> Option<Duration> {
        self.number(code).map(u64::from).map(Duration::from_secs)
    }

    pub(super) fn terms(
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
        let ipv4 = Ipv4 {
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
        };
        Ok(Terms {
            ipv4,
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

/// How the options of a field end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// With the end option.
    Closed,
    /// With the field.
    Open,
}

/// How the options in `field` end, unless that is in the middle of one.
fn extent(field: &[u8]) -> Option<Extent> {
    let mut rest = field;
    loop {
        rest = match rest {
            [] => return Some(Extent::Open),
            [255, ..] => return Some(Extent::Closed),
            [0, after @ ..] => after,
            [_] => return None,
            [_, len, after @ ..] => after.get(usize::from(*len)..)?,
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
        // 0.0.0.0/1 and its halves hold hosts, though their first address is none.
        let holds_hosts = prefix < 8 && destination.is_unspecified();
        let reachable = holds_hosts || terms::is_unicast(destination);
        let via = gateway.is_unspecified() || terms::is_unicast(gateway);
        if reachable && via && !routes.contains(&route) && routes.len() < MOST_ROUTES {
            routes.push(route);
        }
    }
    (!raw.is_empty()).then_some(routes)
}
