//! Links, addresses and routes, to and from rtnetlink messages; no I/O, and of libc the numbers alone.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::codec::{Builder, attributes, read_u16, read_u32};

/// `IFA_RT_PRIORITY` of `<linux/if_addr.h>`: metric of the route that the kernel adds for an address's prefix.
const IFA_RT_PRIORITY: u16 = 9;
/// `IFA_PROTO`: who added an address (Linux 5.18 and later; older ones ignore it).
const IFA_PROTO: u16 = 11;
/// `IFLA_VLAN_ID` of `<linux/if_link.h>`.
pub(crate) const IFLA_VLAN_ID: u16 = 1;
/// `IFLA_INET6_FLAGS` of `<linux/if_link.h>`.
const IFLA_INET6_FLAGS: u16 = 1;
/// `IF_RA_MANAGED` of the kernel's `if_inet6.h`: a router said that addresses come from DHCPv6.
pub const RA_MANAGED: u32 = 0x40;
/// `IF_RA_OTHERCONF`: a router said that other settings come from DHCPv6.
pub const RA_OTHER: u32 = 0x80;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its number, the same until it goes.
    pub index: u32,
    /// Its name, which can change.
    pub name: String,
    /// `ARPHRD_*`; 1 for Ethernet.
    pub hardware: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// Hardware address.
    pub mac: Vec<u8>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Driver kind of a software interface (`bridge`, `veth`, `vlan`); absent for hardware.
    pub kind: Option<String>,
    /// Of a VLAN, the index of the link that it is on, and its id.
    pub vlan: Option<(u32, u16)>,
    /// What somebody has noted of it (`ip link set alias`).
    pub alias: Option<String>,
    /// Index of the bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// `IF_RA_*` and other IPv6 flags, if the message carried them.
    pub inet6_flags: Option<u32>,
    /// How often the carrier came or went (`IFLA_CARRIER_CHANGES`, Linux 3.15), if the message says.
    pub carrier_changes: Option<u32>,
}

impl Link {
    /// Whether it is set up (`IFF_UP`).
    pub fn is_up(&self) -> bool {
        self.flags & flag(libc::IFF_UP) != 0
    }

    /// Whether it can carry packets: up, with a carrier (`IFF_LOWER_UP`) and in operation (`IFF_RUNNING`).
    pub fn has_carrier(&self) -> bool {
        let all = flag(libc::IFF_UP) | flag(libc::IFF_RUNNING) | flag(libc::IFF_LOWER_UP);
        self.flags & all == all
    }

    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.flags & flag(libc::IFF_LOOPBACK) != 0
    }
}

fn flag(value: libc::c_int) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub interface: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// IPv4 broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// Seconds until the kernel removes it; [`crate::FOREVER`] for never.
    pub valid: u32,
    /// Seconds until it is deprecated.
    pub preferred: u32,
    /// Metric of the route to its prefix; 0 leaves the kernel's default.
    pub metric: u32,
    /// Who added it (`IFA_PROTO`); 0 if unknown.
    pub protocol: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

/// A unicast route in the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface that it leaves by.
    pub interface: u32,
    /// Destination network.
    pub destination: IpAddr,
    /// Length of the destination's prefix in bits.
    pub prefix: u8,
    /// Next hop; absent if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric; the lower wins.
    pub metric: u32,
    /// Who added it (`RTPROT_*`).
    pub protocol: u8,
}

impl Link {
    /// Reads the body of an `RTM_NEWLINK`: `struct ifinfomsg` and attributes.
    pub fn decode(body: &[u8]) -> Option<Self> {
        if is_family(body, libc::AF_BRIDGE) {
            return None;
        }
        let mut link = Self {
            hardware: read_u16(body, 2)?,
            index: read_u32(body, 4)?,
            flags: read_u32(body, 8)?,
            ..Self::default()
        };
        let (mut parent, mut id) = (None, None);
        for (kind, value) in attributes(body.get(16..)?) {
            match kind {
                // An event of a radio's driver: it names the interface, and tells nothing else of it.
                libc::IFLA_WIRELESS => return None,
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_ADDRESS => link.mac = value.to_vec(),
                libc::IFLA_MTU => link.mtu = read_u32(value, 0)?,
                libc::IFLA_MASTER => link.master = read_u32(value, 0).filter(|index| *index != 0),
                libc::IFLA_LINKINFO => {
                    link.kind = nested(value, libc::IFLA_INFO_KIND).map(text);
                    let data = nested(value, libc::IFLA_INFO_DATA);
                    let data = data.filter(|_| link.kind.as_deref() == Some("vlan"));
                    id = data.and_then(|data| read_u16(nested(data, IFLA_VLAN_ID)?, 0));
                }
                libc::IFLA_LINK => parent = read_u32(value, 0),
                libc::IFLA_IFALIAS => link.alias = Some(text(value)),
                libc::IFLA_CARRIER_CHANGES => link.carrier_changes = read_u32(value, 0),
                libc::IFLA_PROTINFO => link.inet6_flags = inet6_flags(value),
                libc::IFLA_AF_SPEC => {
                    let family = u16::try_from(libc::AF_INET6).ok()?;
                    let flags = nested(value, family).and_then(inet6_flags);
                    link.inet6_flags = flags.or(link.inet6_flags);
                }
                _ => {}
            }
        }
        link.vlan = parent.zip(id);
        (!link.name.is_empty()).then_some(link)
    }
}

fn nested(value: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(value)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, inner)| inner)
}

fn inet6_flags(value: &[u8]) -> Option<u32> {
    read_u32(nested(value, IFLA_INET6_FLAGS)?, 0)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let bytes = value.get(..end.unwrap_or(value.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

impl Address {
    /// Reads the body of an `RTM_NEWADDR` or `RTM_DELADDR`: `struct ifaddrmsg` and attributes.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut local = None;
        let mut peer = None;
        let mut address = Self {
            interface: read_u32(body, 4)?,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix: *body.get(1)?,
            broadcast: None,
            scope: *body.get(3)?,
            valid: crate::FOREVER,
            preferred: crate::FOREVER,
            metric: 0,
            protocol: 0,
            flags: u32::from(*body.get(2)?),
        };
        for (kind, value) in attributes(body.get(8..)?) {
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => peer = ip(value),
                libc::IFA_BROADCAST => address.broadcast = ipv4(value),
                libc::IFA_FLAGS => address.flags = read_u32(value, 0)?,
                libc::IFA_CACHEINFO => {
                    address.preferred = read_u32(value, 0)?;
                    address.valid = read_u32(value, 4)?;
                }
                IFA_RT_PRIORITY => address.metric = read_u32(value, 0)?,
                IFA_PROTO => address.protocol = *value.first()?,
                _ => {}
            }
        }
        address.address = local.or(peer)?;
        Some(address)
    }

    /// The message that adds or replaces the address (`RTM_NEWADDR`), or removes it (`RTM_DELADDR`).
    pub fn encode(&self, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let [a, b, c, d] = self.interface.to_ne_bytes();
        // The field holds the low bits alone; IFA_FLAGS has them all.
        let low = self
            .flags
            .to_le_bytes()
            .first()
            .copied()
            .unwrap_or_default();
        let body = [
            family(self.address),
            self.prefix,
            low,
            self.scope,
            a,
            b,
            c,
            d,
        ];
        let mut builder = Builder::new(kind, flags, sequence, &body);
        let bytes = octets(self.address);
        builder
            .attribute(libc::IFA_LOCAL, &bytes)
            .attribute(libc::IFA_ADDRESS, &bytes);
        if kind == libc::RTM_NEWADDR {
            if let Some(broadcast) = self.broadcast {
                builder.attribute(libc::IFA_BROADCAST, &broadcast.octets());
            }
            let mut lifetimes = Vec::with_capacity(16);
            lifetimes.extend(self.preferred.to_ne_bytes());
            lifetimes.extend(self.valid.to_ne_bytes());
            lifetimes.extend([0; 8]);
            builder.attribute(libc::IFA_CACHEINFO, &lifetimes);
            builder.attribute_u32(libc::IFA_FLAGS, self.flags);
            if self.metric != 0 {
                builder.attribute_u32(IFA_RT_PRIORITY, self.metric);
            }
            if self.protocol != 0 {
                builder.attribute(IFA_PROTO, &[self.protocol]);
            }
        }
        builder.finish()
    }
}

impl Route {
    /// Reads the body of an `RTM_NEWROUTE` or `RTM_DELROUTE`, if it is a unicast route of the main table with one
    /// next hop: `struct rtmsg` and attributes.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let [family, prefix, _, _, table, protocol, _, kind, ..] = *body else {
            return None;
        };
        if table != libc::RT_TABLE_MAIN || kind != libc::RTN_UNICAST {
            return None;
        }
        let any = if libc::c_int::from(family) == libc::AF_INET6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let mut route = Self {
            interface: 0,
            destination: any,
            prefix,
            gateway: None,
            source: None,
            metric: 0,
            protocol,
        };
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                libc::RTA_DST => route.destination = ip(value)?,
                libc::RTA_GATEWAY => route.gateway = ip(value),
                libc::RTA_PREFSRC => route.source = ip(value),
                libc::RTA_OIF => route.interface = read_u32(value, 0)?,
                libc::RTA_PRIORITY => route.metric = read_u32(value, 0)?,
                _ => {}
            }
        }
        (route.interface != 0).then_some(route)
    }

    /// The message that adds the route (`RTM_NEWROUTE`) or removes it (`RTM_DELROUTE`).
    pub fn encode(&self, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let scope = if self.gateway.is_none() && self.destination.is_ipv4() {
            libc::RT_SCOPE_LINK
        } else {
            libc::RT_SCOPE_UNIVERSE
        };
        let (table, unicast) = (libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
        let family = family(self.destination);
        let head = [
            family,
            self.prefix,
            0,
            0,
            table,
            self.protocol,
            scope,
            unicast,
        ];
        let mut body = head.to_vec();
        body.extend([0; 4]);
        let mut builder = Builder::new(kind, flags, sequence, &body);
        if self.prefix > 0 {
            builder.attribute(libc::RTA_DST, &octets(self.destination));
        }
        if let Some(gateway) = self.gateway {
            builder.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = self.source {
            builder.attribute(libc::RTA_PREFSRC, &octets(source));
        }
        builder
            .attribute_u32(libc::RTA_OIF, self.interface)
            .attribute_u32(libc::RTA_PRIORITY, self.metric);
        builder.finish()
    }
}

pub(crate) fn is_family(body: &[u8], family: libc::c_int) -> bool {
    body.first()
        .is_some_and(|first| libc::c_int::from(*first) == family)
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    u8::try_from(family).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => ipv4(value).map(IpAddr::V4),
        16 => value
            .first_chunk::<16>()
            .map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
        _ => None,
    }
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{messages, nest};
    use crate::event::Event;

    fn address() -> Address {
        Address {
            interface: 9,
            address: IpAddr::from([192, 0, 2, 17]),
            prefix: 24,
            broadcast: Some(Ipv4Addr::new(192, 0, 2, 255)),
            scope: 0,
            valid: 3600,
            preferred: 3600,
            metric: 1009,
            protocol: 103,
            flags: 0x80,
        }
    }

    #[test]
    fn addresses_round_trip() {
        let bytes = address().encode(libc::RTM_NEWADDR, 0, 1);
        let message = messages(&bytes).next().unwrap();
        assert_eq!(Event::decode(&message), Some(Event::Address(address())));
    }

    #[test]
    fn routes_round_trip() {
        let default = Route {
            interface: 9,
            destination: IpAddr::from([0, 0, 0, 0]),
            prefix: 0,
            gateway: Some(IpAddr::from([192, 0, 2, 1])),
            source: Some(IpAddr::from([192, 0, 2, 17])),
            metric: 1009,
            protocol: 103,
        };
        let six = Route {
            destination: "2001:db8::".parse().unwrap(),
            prefix: 32,
            gateway: None,
            source: None,
            ..default.clone()
        };
        for route in [default, six] {
            let bytes = route.encode(libc::RTM_DELROUTE, 0, 1);
            let message = messages(&bytes).next().unwrap();
            assert_eq!(Event::decode(&message), Some(Event::RouteGone(route)));
        }
    }

    #[test]
    fn an_event_of_a_radio_says_nothing_of_the_link() {
        let name = [8_u16.to_ne_bytes(), libc::IFLA_IFNAME.to_ne_bytes()].concat();
        let mut body = [&[0; 16][..], &name, b"wl0\0"].concat();
        assert!(Link::decode(&body).is_some());
        body.extend(8_u16.to_ne_bytes());
        body.extend(libc::IFLA_WIRELESS.to_ne_bytes());
        body.extend([1, 2, 3, 4]);
        assert_eq!(Link::decode(&body), None);
    }

    #[test]
    fn a_vlan_tells_its_parent_and_its_id() {
        let of_kind = |kind: &[u8]| {
            let data = nest(&[(IFLA_VLAN_ID, &10_u16.to_ne_bytes())]);
            let info = nest(&[(libc::IFLA_INFO_KIND, kind), (libc::IFLA_INFO_DATA, &data)]);
            let mut builder = Builder::new(libc::RTM_NEWLINK, 0, 1, &[0; 16]);
            builder
                .attribute(libc::IFLA_IFNAME, b"lan10\0")
                .attribute(libc::IFLA_IFALIAS, b"of ours\0")
                .attribute(libc::IFLA_LINKINFO, &info)
                .attribute_u32(libc::IFLA_LINK, 7);
            let bytes = builder.finish();
            Link::decode(messages(&bytes).next().unwrap().body).unwrap()
        };
        let link = of_kind(b"vlan\0");
        assert_eq!(link.vlan, Some((7, 10)));
        assert_eq!(link.alias.as_deref(), Some("of ours"));
        assert_eq!(of_kind(b"macvlan\0").vlan, None);
    }

    #[test]
    fn truncated_bodies_are_survived() {
        let bytes = address().encode(libc::RTM_NEWADDR, 0, 1);
        let body = messages(&bytes).next().unwrap().body;
        for end in 0..body.len() {
            let _ = Address::decode(&body[..end]);
            let _ = Route::decode(&body[..end]);
            let _ = Link::decode(&body[..end]);
        }
    }
}
