//! Addresses of this machine's interfaces, told apart into private and public ones.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::addresses::Addresses;

/// Interfaces with such names lead to the provider, so their addresses are public (router7's convention).
const UPLINK: &str = "uplink";

/// Whether the address belongs to a network that is not the Internet: loopback, RFC 1918, RFC 3927, RFC 6598,
/// and for IPv6 loopback, unique local (RFC 4193) and link-local (RFC 4291).
pub fn is_in_private_net(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || is_shared(v4)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_in_private_net(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

/// 100.64.0.0/10: between a provider and its customers, and what overlay networks use (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

/// Private addresses of all interfaces that are up, link-local IPv6 ones with their zone.
///
/// # Errors
/// The errno of getifaddrs(3).
pub fn private_interface_addrs() -> io::Result<Vec<String>> {
    Ok(interface_addresses()?.private)
}

/// Public addresses of all interfaces that are up.
///
/// # Errors
/// The errno of getifaddrs(3).
pub fn public_interface_addrs() -> io::Result<Vec<String>> {
    Ok(interface_addresses()?.public)
}

/// All addresses of all interfaces that are up, told apart.
///
/// # Errors
/// The errno of getifaddrs(3).
pub fn interface_addresses() -> io::Result<Addresses> {
    let found = getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let rows = found.filter_map(|interface| {
        let storage = interface.address?;
        let v4 = storage
            .as_sockaddr_in()
            .map(|address| IpAddr::V4(address.ip()));
        let address = v4.or_else(|| {
            storage
                .as_sockaddr_in6()
                .map(|address| IpAddr::V6(address.ip()))
        })?;
        Some((interface.interface_name, address))
    });
    Ok(classify(rows))
}

fn classify(rows: impl Iterator<Item = (String, IpAddr)>) -> Addresses {
    let mut addresses = Addresses::default();
    for (interface, address) in rows {
        let text = text_of(&interface, address);
        if is_in_private_net(address) && !interface.starts_with(UPLINK) {
            addresses.private.push(text);
        } else {
            addresses.public.push(text);
        }
    }
    addresses
}

fn text_of(interface: &str, address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if is_link_local(v6) => format!("{v6}%{interface}"),
        IpAddr::V4(_) | IpAddr::V6(_) => address.to_string(),
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, private: bool) {
        assert_eq!(
            is_in_private_net(address.parse().unwrap()),
            private,
            "{address}"
        );
    }

    #[test]
    fn the_lists_of_the_rfcs_and_their_edges() {
        for private in [
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "169.254.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "::1",
            "fc00::",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "::ffff:10.0.0.1",
        ] {
            check(private, true);
        }
        for public in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "169.253.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "8.8.8.8",
            "2001:db8::1",
            "fec0::1",
            "fbff::1",
            "::ffff:8.8.8.8",
        ] {
            check(public, false);
        }
    }

    #[test]
    fn zones_are_kept_and_uplinks_are_public() {
        let rows = [
            ("eth0", "fe80::1"),
            ("eth0", "10.0.0.5"),
            ("uplink0", "10.9.9.9"),
            ("eth0", "2001:db8::7"),
        ];
        let got = classify(
            rows.into_iter()
                .map(|(name, address)| (name.to_owned(), address.parse().unwrap())),
        );
        assert_eq!(got.private, ["fe80::1%eth0", "10.0.0.5"]);
        assert_eq!(got.public, ["10.9.9.9", "2001:db8::7"]);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        assert!(
            private_interface_addrs()
                .unwrap()
                .iter()
                .any(|address| address.starts_with("127."))
        );
    }
}
