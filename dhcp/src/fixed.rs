//! The configuration that an administrator fixes for an interface: `<config-dir>/<interface>`; pure.
//!
//! ```text
//! address=192.0.2.5/24
//! gateway=192.0.2.1
//! dns='192.0.2.53 2001:db8::53'
//! ```
//!
//! The format is that of our state files; a key that we do not know is an error, since it is more often a slip than a
//! wish for the future.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use gokrazy_core::keyvalue::Document;
use gokrazy_core::lease::{Address6, Ipv4, Lease, Method, Route};

use crate::moment::Moment;
use crate::names;
use crate::terms::{broadcast_of, is_host};

/// Keys of the file.
const KEYS: [&str; 14] = [
    "address", "gateway", "routes", "address6", "gateway6", "routes6", "dns", "domain", "search",
    "ntp", "mtu", "dhcp", "parent", "vlan",
];

/// Whether leases are asked for beside what is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp {
    /// No: what is fixed is all.
    Off,
    /// Yes.
    Beside,
}

/// What is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// IPv4 address and length of its prefix.
    pub address: Option<(Ipv4Addr, u8)>,
    /// IPv4 default router.
    pub gateway: Option<Ipv4Addr>,
    /// Other IPv4 routes.
    pub routes: Vec<Route>,
    /// IPv6 address and length of its prefix.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// IPv6 default router.
    pub gateway6: Option<Ipv6Addr>,
    /// Other IPv6 routes.
    pub routes6: Vec<Route6>,
    /// DNS servers of both kinds.
    pub dns: Vec<IpAddr>,
    /// Domain name.
    pub domain: Option<String>,
    /// Search list.
    pub search: Vec<String>,
    /// NTP servers.
    pub ntp: Vec<Ipv4Addr>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// Whether leases are asked for too.
    pub dhcp: Dhcp,
    /// The interface is a VLAN: its parent's name, and its id.
    pub vlan: Option<(String, u16)>,
}

/// An IPv6 route; in the file `2001:db8:1::/48,fe80::1`, with the next hop `::` if the destination is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route6 {
    /// Destination network, host bits zero.
    pub destination: Ipv6Addr,
    /// Length of its prefix, 0 to 128.
    pub prefix: u8,
    /// Next hop.
    pub gateway: Option<Ipv6Addr>,
}

impl FromStr for Route6 {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (network, gateway) = word.split_once(',').ok_or(())?;
        let network: Address6 = network.parse()?;
        let gateway: Ipv6Addr = gateway.parse().map_err(|_| ())?;
        let host = u128::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
        Ok(Self {
            destination: Ipv6Addr::from(u128::from(network.address) & !host),
            prefix: network.prefix,
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        })
    }
}

impl Fixed {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The line or key that is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|error| error.to_string())?;
        if let Some((key, _)) = document.iter().find(|(key, _)| !KEYS.contains(key)) {
            return Err(format!(
                "unknown key `{key}`; known are {}",
                KEYS.join(", ")
            ));
        }
        let plain = |error: gokrazy_core::keyvalue::ParseError| error.to_string();
        let address: Option<(Ipv4Addr, u8)> = network(&document, "address", 32)?;
        let fixed = Self {
            gateway: document.optional_as("gateway").map_err(plain)?,
            routes: document
                .list_as("routes")
                .map_err(plain)?
                .into_iter()
                .map(without_host_bits)
                .collect(),
            address6: network(&document, "address6", 128)?,
            gateway6: document.optional_as("gateway6").map_err(plain)?,
            routes6: document.list_as("routes6").map_err(plain)?,
            dns: document.list_as("dns").map_err(plain)?,
            ntp: document.list_as("ntp").map_err(plain)?,
            domain: name(&document, "domain")?,
            search: search(&document)?,
            mtu: document.optional_as("mtu").map_err(plain)?,
            dhcp: match document.get("dhcp") {
                // An IPv4 address leaves nothing to ask for, unless it is said.
                None if address.is_some() => Dhcp::Off,
                Some("no") => Dhcp::Off,
                None | Some("yes") => Dhcp::Beside,
                Some(other) => return Err(format!("key `dhcp` is `yes` or `no`, not {other:?}")),
            },
            vlan: vlan(&document)?,
            address,
        };
        fixed.check()?;
        Ok(fixed)
    }

    fn check(&self) -> Result<(), String> {
        if let Some((address, prefix)) = self.address
            && !is_host(address, prefix)
        {
            return Err(format!("no host can have the address {address}/{prefix}"));
        }
        let needs_address =
            self.gateway.is_some() || !self.routes.is_empty() || !self.ntp.is_empty();
        if self.address.is_none() && needs_address {
            return Err("`gateway`, `routes` and `ntp` need an `address`".to_owned());
        }
        let needs_address6 = self.gateway6.is_some() || !self.routes6.is_empty();
        if self.address6.is_none() && needs_address6 {
            return Err("`gateway6` and `routes6` need an `address6`".to_owned());
        }
        if self.mtu.is_some_and(|mtu| mtu < 68) {
            return Err("`mtu` is at least 68".to_owned());
        }
        Ok(())
    }

    /// The published form of the IPv4 part, in force since `now`.
    pub fn lease(&self, interface: &str, now: Moment) -> Option<Lease> {
        let (address, prefix) = self.address?;
        let four = |server: &IpAddr| match server {
            IpAddr::V4(server) => Some(*server),
            IpAddr::V6(_) => None,
        };
        let ipv4 = Ipv4 {
            broadcast: broadcast_of(address, prefix, None),
            routers: self.gateway.into_iter().collect(),
            routes: self.routes.clone(),
            dns: self.dns.iter().filter_map(four).collect(),
            domain: self.domain.clone(),
            search: self.search.clone(),
            ntp: self.ntp.clone(),
            mtu: self.mtu,
            ..Ipv4::alone(address, prefix)
        };
        let since = now.as_secs();
        Some(Lease::endless(interface, Method::Static, Some(ipv4), since))
    }
}

/// The kernel refuses a route whose destination is a host of its network; which network is meant is plain.
fn without_host_bits(route: Route) -> Route {
    let host = u32::MAX.checked_shr(route.prefix.into()).unwrap_or(0);
    Route {
        destination: Ipv4Addr::from(u32::from(route.destination) & !host),
        ..route
    }
}

fn network<T: FromStr>(
    document: &Document,
    key: &'static str,
    longest: u8,
) -> Result<Option<(T, u8)>, String> {
    let Some(text) = document.get(key).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(address, prefix)| {
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest)?;
        Some((address.parse().ok()?, prefix))
    });
    match parsed {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(format!(
            "key `{key}` is an address and the length of its prefix, not {text:?}"
        )),
    }
}

fn vlan(document: &Document) -> Result<Option<(String, u16)>, String> {
    let id: Option<u16> = document
        .optional_as("vlan")
        .map_err(|error| error.to_string())?;
    match (document.get("parent"), id) {
        (None, None) => Ok(None),
        (Some(parent), Some(id @ 1..=4094)) => Ok(Some((parent.to_owned(), id))),
        (_, Some(0 | 4095..)) => Err("`vlan` is from 1 to 4094".to_owned()),
        (None, Some(_)) | (Some(_), None) => Err("`vlan` and `parent` go together".to_owned()),
    }
}

fn name(document: &Document, key: &'static str) -> Result<Option<String>, String> {
    match document.get(key).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match names::domain(text.as_bytes()) {
            Some(name) => Ok(Some(name)),
            None => Err(format!("key `{key}` is a domain name, not {text:?}")),
        },
    }
}

fn search(document: &Document) -> Result<Vec<String>, String> {
    let words = document
        .get("search")
        .unwrap_or_default()
        .split_whitespace();
    words
        .map(|word| {
            names::domain(word.as_bytes()).ok_or_else(|| format!("key `search` holds {word:?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, word: &str) {
        let error = Fixed::parse(text).unwrap_err();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn a_file_is_read_and_published() {
        let text = "# the lab\naddress=192.0.2.5/24\ngateway=192.0.2.1\nroutes='10.0.0.0/8,192.0.2.9'\n\
                    address6=2001:db8::5/64\ngateway6=fe80::1\nroutes6='2001:db8:1::9/48,fe80::2'\n\
                    dns='192.0.2.53 2001:db8::53'\ndomain=example.org\nntp=192.0.2.123\nmtu=1400\n";
        let fixed = Fixed::parse(text).unwrap();
        assert_eq!(fixed.dhcp, Dhcp::Off);
        assert_eq!(fixed.gateway6, "fe80::1".parse().ok());
        let route6 = Route6 {
            destination: "2001:db8:1::".parse().unwrap(),
            prefix: 48,
            gateway: "fe80::2".parse().ok(),
        };
        assert_eq!(fixed.routes6, [route6]);
        let lease = fixed.lease("eth0", Moment::from_secs(3)).unwrap();
        assert_eq!(lease.method, Method::Static);
        let ntp = &lease.ipv4.as_ref().unwrap().ntp;
        assert_eq!(*ntp, [Ipv4Addr::new(192, 0, 2, 123)]);
        let dns = &lease.ipv4.as_ref().unwrap().dns;
        assert_eq!(*dns, [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!(Lease::parse(&lease.render()), Ok(lease));
    }

    #[test]
    fn dhcp_goes_on_beside_ipv6_or_if_asked() {
        assert_eq!(
            Fixed::parse("address6=2001:db8::5/64\n").unwrap().dhcp,
            Dhcp::Beside
        );
        assert_eq!(
            Fixed::parse("address=192.0.2.5/24\ndhcp=yes\n")
                .unwrap()
                .dhcp,
            Dhcp::Beside
        );
        assert_eq!(Fixed::parse("dhcp=no\n").unwrap().dhcp, Dhcp::Off);
    }

    #[test]
    fn routes_lead_to_networks() {
        let text = "address=192.0.2.5/24\nroutes='10.1.2.3/8,192.0.2.9 192.0.2.7/32,0.0.0.0 10.9.9.9/0,192.0.2.9'\n";
        let routes = Fixed::parse(text).unwrap().routes;
        let networks: Vec<String> = routes
            .iter()
            .map(|route| format!("{}/{}", route.destination, route.prefix))
            .collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0"]);
    }

    #[test]
    fn a_vlan_has_a_parent() {
        let fixed = Fixed::parse("parent=eth0\nvlan=10\n").unwrap();
        assert_eq!(fixed.vlan, Some(("eth0".to_owned(), 10)));
        assert_eq!(fixed.dhcp, Dhcp::Beside);
    }

    #[test]
    fn slips_are_named() {
        refused("adress=192.0.2.5/24\n", "unknown key `adress`");
        refused("address=192.0.2.5\n", "length of its prefix");
        refused("address=192.0.2.5/33\n", "length of its prefix");
        refused("address=192.0.2.255/24\n", "no host can have");
        refused("gateway=192.0.2.1\n", "need an `address`");
        refused("gateway6=fe80::1\n", "need an `address6`");
        refused("ntp=192.0.2.123\n", "need an `address`");
        refused(
            "address6=2001:db8::5/64\nroutes6=2001:db8:1::/48\n",
            "routes6",
        );
        refused(
            "address6=2001:db8::5/64\nroutes6='::/129,fe80::1'\n",
            "routes6",
        );
        refused("dns=example\n", "dns");
        refused("domain='a b'\n", "domain name");
        refused("mtu=10\n", "at least 68");
        refused("dhcp=maybe\n", "yes");
        refused("vlan=10\n", "go together");
        refused("vlan=4095\nparent=eth0\n", "from 1 to 4094");
        refused("nonsense\n", "line 1");
    }
}
