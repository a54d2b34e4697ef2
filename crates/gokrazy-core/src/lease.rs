//! The configuration in force on an interface, as dhcp publishes it under `<run-dir>/net/<if>`; pure.
//!
//! The file's absence means that dhcp has configured nothing on that interface.

use std::fmt;
use std::net::Ipv4Addr;
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
}

impl Method {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Static => "static",
            Self::LinkLocal => "link-local",
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
        [Self::Dhcp, Self::Static, Self::LinkLocal]
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

/// What is configured on one interface.
///
/// Times are in whole seconds on the boot clock (`CLOCK_BOOTTIME`), which no one steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the interface.
    pub interface: String,
    /// How the configuration came about.
    pub method: Method,
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
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let prefix = document.required_as("prefix")?;
        if prefix > 32 {
            return Err(ParseError::Invalid {
                key: "prefix",
                value: u8::to_string(&prefix),
            });
        }
        Ok(Self {
            interface: document.required("interface")?.to_owned(),
            method: document.required_as("method")?,
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
            server: document.optional_as("server")?,
            acquired_at: document.required_as("acquired_at")?,
            renew_at: document.optional_as("renew_at")?,
            rebind_at: document.optional_as("rebind_at")?,
            expires_at: document.optional_as("expires_at")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        Document::new()
            .set("interface", &self.interface)
            .set("method", self.method)
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
            .set_some("captive_portal", self.captive_portal.as_ref())
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
                        hostname=pi\ncaptive_portal='https://example.org/?a=b'\nserver=192.0.2.1\nacquired_at=3\nrenew_at=1803\nrebind_at=3153\nexpires_at=3603\n";

    #[test]
    fn golden_file_and_round_trip() {
        let lease = Lease::parse(TEXT).unwrap();
        assert_eq!(
            lease.dns,
            [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)]
        );
        assert_eq!(lease.routes.len(), 2);
        assert_eq!(lease.render(), TEXT);
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
