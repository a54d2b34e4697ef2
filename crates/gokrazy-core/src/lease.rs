//! The configuration in force on an interface, as dhcp publishes it under `<run-dir>/net/<if>`; pure.
//!
//! The file's absence means that the interface has no address of either kind that reaches beyond the link, unless
//! someone else gave it an IPv4 one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::keyvalue::{Document, ParseError};

/// How the configuration came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A DHCP lease (RFC 2131).
    Dhcp,
    /// From a configuration file.
    Static,
    /// Self-assigned while no server answers (RFC 3927).
    LinkLocal,
    /// None for IPv4: there are IPv6 addresses alone.
    Ipv6,
}

impl Method {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Static => "static",
            Self::LinkLocal => "link-local",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Dhcp, Self::Static, Self::LinkLocal, Self::Ipv6]
            .into_iter()
            .find(|method| method.as_str() == word)
            .ok_or(())
    }
}

/// A route that is not the default one; in the file `10.0.0.0/8,192.0.2.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination network, host bits zero.
    pub destination: Ipv4Addr,
    /// Length of its prefix, 0 to 32.
    pub prefix: u8,
    /// Next hop; unspecified (`0.0.0.0`) if the destination is on the link.
    pub gateway: Ipv4Addr,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{},{}", self.destination, self.prefix, self.gateway)
    }
}

impl FromStr for Route {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (network, gateway) = word.split_once(',').ok_or(())?;
        let (destination, prefix) = network.split_once('/').ok_or(())?;
        let prefix = prefix.parse().map_err(|_| ())?;
        if prefix > 32 {
            return Err(());
        }
        Ok(Self {
            destination: destination.parse().map_err(|_| ())?,
            prefix,
            gateway: gateway.parse().map_err(|_| ())?,
        })
    }
}

/// An IPv6 address and the length of its prefix; in the file `2001:db8::17/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address6 {
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its network's prefix, 0 to 128.
    pub prefix: u8,
}

impl fmt::Display for Address6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Address6 {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (address, prefix) = word.split_once('/').ok_or(())?;
        let prefix = prefix.parse().map_err(|_| ())?;
        if prefix > 128 {
            return Err(());
        }
        Ok(Self {
            address: address.parse().map_err(|_| ())?,
            prefix,
        })
    }
}

/// An IPv4 address and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4 {
    /// The interface's address.
    pub address: Ipv4Addr,
    /// Length of the network prefix, 0 to 32.
    pub prefix: u8,
    /// Broadcast address of the network, if it has one.
    pub broadcast: Option<Ipv4Addr>,
    /// Default routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Other routes.
    pub routes: Vec<Route>,
    /// DNS servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// The domain name, already checked to be one.
    pub domain: Option<String>,
    /// The search list, already checked.
    pub search: Vec<String>,
    /// NTP servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    /// Maximum transmission unit in bytes.
    pub mtu: Option<u16>,
    /// The name that the server has for this host, already checked to be one; nobody sets it.
    pub hostname: Option<String>,
    /// Where the network's captive portal answers (RFC 8910); nobody follows it.
    pub captive_portal: Option<String>,
}

impl Ipv4 {
    /// An address that nothing comes with.
    pub fn alone(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            broadcast: None,
            routers: Vec::new(),
            routes: Vec::new(),
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            ntp: Vec::new(),
            mtu: None,
            hostname: None,
            captive_portal: None,
        }
    }

    fn read(document: &Document) -> Result<Self, ParseError> {
        let prefix = document.required_as("prefix")?;
        if prefix > 32 {
            return Err(ParseError::Invalid {
                key: "prefix",
                value: u8::to_string(&prefix),
            });
        }
        Ok(Self {
            address: document.required_as("address")?,
            prefix,
            broadcast: document.optional_as("broadcast")?,
            routers: document.list_as("routers")?,
            routes: document.list_as("routes")?,
            dns: document.list_as("dns")?,
            domain: document.optional_as("domain")?,
            search: document.list_as("search")?,
            ntp: document.list_as("ntp")?,
            mtu: document.optional_as("mtu")?,
            hostname: document.optional_as("hostname")?,
            captive_portal: document.optional_as("captive_portal")?,
        })
    }

    fn write(&self, document: &mut Document) {
        document
            .set("address", self.address)
            .set("prefix", self.prefix)
            .set_some("broadcast", self.broadcast)
            .set_list("routers", &self.routers)
            .set_list("routes", &self.routes)
            .set_list("dns", &self.dns)
            .set_some("domain", self.domain.as_ref())
            .set_list("search", &self.search)
            .set_list("ntp", &self.ntp)
            .set_some("mtu", self.mtu)
            .set_some("hostname", self.hostname.as_ref())
            .set_some("captive_portal", self.captive_portal.as_ref());
    }
}

/// What is configured on one interface.
///
/// Times are in whole seconds on the boot clock (`CLOCK_BOOTTIME`), which no one steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the interface.
    pub interface: String,
    /// How the configuration came about.
    pub method: Method,
    /// What there is of IPv4; nothing with [`Method::Ipv6`].
    pub ipv4: Option<Ipv4>,
    /// IPv6 addresses beyond the link, whoever gave them: routers by way of the kernel, a server, a file.
    pub addresses6: Vec<Address6>,
    /// DNS servers with IPv6 addresses; a link-local one is on this interface.
    pub dns6: Vec<Ipv6Addr>,
    /// The DHCP server that gave the lease.
    pub server: Option<Ipv4Addr>,
    /// When the lease was obtained or last renewed.
    pub acquired_at: u64,
    /// T1: when it will be renewed; absent for what does not end.
    pub renew_at: Option<u64>,
    /// T2: when any server will be asked.
    pub rebind_at: Option<u64>,
    /// When it ends.
    pub expires_at: Option<u64>,
}

impl Lease {
    /// A configuration without an end, and without IPv6 yet.
    pub fn endless(interface: &str, method: Method, ipv4: Option<Ipv4>, since: u64) -> Self {
        Self {
            interface: interface.to_owned(),
            method,
            ipv4,
            addresses6: Vec::new(),
            dns6: Vec::new(),
            server: None,
            acquired_at: since,
            renew_at: None,
            rebind_at: None,
            expires_at: None,
        }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let method = document.required_as("method")?;
        Ok(Self {
            interface: document.required("interface")?.to_owned(),
            method,
            ipv4: match method {
                Method::Ipv6 => None,
                Method::Dhcp | Method::Static | Method::LinkLocal => Some(Ipv4::read(&document)?),
            },
            addresses6: document.list_as("addresses6")?,
            dns6: document.list_as("dns6")?,
            server: document.optional_as("server")?,
            acquired_at: document.required_as("acquired_at")?,
            renew_at: document.optional_as("renew_at")?,
            rebind_at: document.optional_as("rebind_at")?,
            expires_at: document.optional_as("expires_at")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut document = Document::new();
        document
            .set("interface", &self.interface)
            .set("method", self.method);
        if let Some(ipv4) = &self.ipv4 {
            ipv4.write(&mut document);
        }
        document
            .set_list("addresses6", &self.addresses6)
            .set_list("dns6", &self.dns6)
            .set_some("server", self.server)
            .set("acquired_at", self.acquired_at)
            .set_some("renew_at", self.renew_at)
            .set_some("rebind_at", self.rebind_at)
            .set_some("expires_at", self.expires_at)
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "interface=eth0\nmethod=dhcp\naddress=192.0.2.17\nprefix=24\nbroadcast=192.0.2.255\n\
                        routers=192.0.2.1\nroutes='10.0.0.0/8,192.0.2.9 198.51.100.0/24,0.0.0.0'\n\
                        dns='192.0.2.53 192.0.2.54'\ndomain=example.org\nntp=192.0.2.123\nmtu=1500\n\
                        hostname=pi\ncaptive_portal='https://example.org/?a=b'\n\
                        addresses6='2001:db8::17/64 2001:db8::18/128'\ndns6=2001:db8::53\nserver=192.0.2.1\nacquired_at=3\nrenew_at=1803\nrebind_at=3153\nexpires_at=3603\n";

    #[test]
    fn golden_file_and_round_trip() {
        let lease = Lease::parse(TEXT).unwrap();
        let ipv4 = lease.ipv4.clone().unwrap();
        assert_eq!(
            ipv4.dns,
            [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)]
        );
        assert_eq!(ipv4.routes.len(), 2);
        assert_eq!(lease.addresses6.len(), 2);
        assert_eq!(lease.render(), TEXT);
    }

    #[test]
    fn an_interface_can_do_without_ipv4() {
        let text = "interface=eth0\nmethod=ipv6\naddresses6=2001:db8::17/64\nacquired_at=3\n";
        let lease = Lease::parse(text).unwrap();
        assert_eq!(lease.ipv4, None);
        assert_eq!(lease.render(), text);
    }

    #[test]
    fn impossible_values_are_refused() {
        let long = TEXT.replace("prefix=24", "prefix=33");
        assert_eq!(
            Lease::parse(&long),
            Err(ParseError::Invalid {
                key: "prefix",
                value: "33".to_owned()
            })
        );
        for odd in ["2001:db8::17", "2001:db8::17/129", "192.0.2.1/24"] {
            let odd = TEXT.replace("2001:db8::17/64", odd);
            assert!(Lease::parse(&odd).is_err());
        }
        let odd = TEXT.replace("method=dhcp", "method=magic");
        assert_eq!(
            Lease::parse(&odd),
            Err(ParseError::Invalid {
                key: "method",
                value: "magic".to_owned()
            })
        );
    }
}
