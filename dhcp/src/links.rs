//! Which interfaces are ours to manage; pure.

use gokrazy_netlink::Link;

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;
/// Software interfaces that stand for a wire of their own, as seen from inside a container or a namespace.
const WIRES: [&str; 4] = ["veth", "macvlan", "ipvlan", "vlan"];

/// Whether an interface is to be managed: one of `named`, or any wired one if none is named.
///
/// Wired: Ethernet that is hardware or stands for it, is no radio, and belongs to no bridge or bond.
pub fn is_wanted(link: &Link, named: &[String], is_wireless: impl Fn(&str) -> bool) -> bool {
    if link.is_loopback() || mac(link).is_none() {
        return false;
    }
    if !named.is_empty() {
        return named.contains(&link.name);
    }
    let wire = link
        .kind
        .as_deref()
        .is_none_or(|kind| WIRES.contains(&kind));
    wire && link.master.is_none() && !is_wireless(&link.name)
}

/// The hardware address of an Ethernet interface.
pub fn mac(link: &Link) -> Option<[u8; 6]> {
    let mac: [u8; 6] = link.mac.as_slice().try_into().ok()?;
    (link.hardware == ETHERNET && mac != [0; 6]).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: Option<&str>, master: Option<u32>) -> Link {
        Link {
            index: 2,
            name: name.to_owned(),
            hardware: ETHERNET,
            mac: vec![2, 0, 0, 0, 0, 1],
            kind: kind.map(str::to_owned),
            master,
            ..Link::default()
        }
    }

    fn all(link: &Link) -> bool {
        is_wanted(link, &[], |name| name.starts_with("wl"))
    }

    #[test]
    fn wired_interfaces_are_managed_and_others_not() {
        assert!(all(&link("eth0", None, None)) && all(&link("v", Some("veth"), None)));
        assert!(!all(&link("wlan0", None, None)));
        assert!(
            !all(&link("br0", Some("bridge"), None)) && !all(&link("wg", Some("wireguard"), None))
        );
        assert!(!all(&link("port", Some("veth"), Some(9))));
        let mut loopback = link("lo", None, None);
        loopback.hardware = 772;
        assert!(!all(&loopback));
    }

    #[test]
    fn a_name_decides_if_given() {
        let named = ["wlan0".to_owned()];
        assert!(is_wanted(&link("wlan0", None, None), &named, |_| true));
        assert!(!is_wanted(&link("eth0", None, None), &named, |_| false));
    }
}
