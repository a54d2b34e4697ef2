//! What the kernel tells of, from rtnetlink messages; no I/O, and of libc the numbers alone.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::Ipv6Addr;

use crate::codec::{Message, attributes, read_u16, read_u32};
use crate::types::{Address, Link, Route, is_family};

/// A change in the kernel's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    Link(Link),
    /// The link with this index is gone.
    LinkGone(u32),
    /// The IPv6 flags of a link changed (`IF_RA_*` and others): a router has spoken.
    Inet6Flags {
        /// Index of the interface.
        interface: u32,
        /// The flags now.
        flags: u32,
    },
    /// An address was added or changed.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// A route was removed.
    RouteGone(Route),
    /// A router advertisement carried an option for user space (RFC 8106 and others).
    RouterOption {
        /// Index of the interface.
        interface: u32,
        /// The router.
        source: Option<Ipv6Addr>,
        /// The option as on the wire, type and length included.
        option: Vec<u8>,
    },
    /// Events were lost: the state must be listed anew.
    Lost,
}

impl Event {
    /// The event that a message tells of, if it is one of ours.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        match message.kind {
            libc::RTM_NEWLINK if is_family(message.body, libc::AF_INET6) => {
                let link = Link::decode(message.body)?;
                Some(Self::Inet6Flags {
                    interface: link.index,
                    flags: link.inet6_flags?,
                })
            }
            libc::RTM_NEWLINK => Link::decode(message.body).map(Self::Link),
            libc::RTM_DELLINK => link_gone(message.body),
            libc::RTM_NEWADDR => Address::decode(message.body).map(Self::Address),
            libc::RTM_DELADDR => Address::decode(message.body).map(Self::AddressGone),
            libc::RTM_DELROUTE => Route::decode(message.body).map(Self::RouteGone),
            libc::RTM_NEWNDUSEROPT => router_option(message.body),
            _ => None,
        }
    }
}

/// A bridge reports a port's leaving as the deletion of an `AF_BRIDGE` link, which is not the link's end.
fn link_gone(body: &[u8]) -> Option<Event> {
    match body.first() {
        Some(0) => read_u32(body, 4).map(Event::LinkGone),
        _ => None,
    }
}

/// `struct nduseroptmsg`: family, padding, option length, interface, ICMP type and code, padding; then the option.
fn router_option(body: &[u8]) -> Option<Event> {
    let length = usize::from(read_u16(body, 2)?);
    let options = body.get(16..)?;
    let after = options
        .get(length.next_multiple_of(4)..)
        .unwrap_or_default();
    Some(Event::RouterOption {
        interface: read_u32(body, 4)?,
        option: options.get(..length)?.to_vec(),
        source: attributes(after)
            .find(|(kind, _)| *kind == 1)
            .and_then(|(_, value)| value.first_chunk::<16>())
            .map(|bytes| Ipv6Addr::from(*bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Builder, messages};
    use crate::types::RA_OTHER;

    #[test]
    fn a_router_option_is_cut_out_whole() {
        let mut body = vec![10, 0, 8, 0, 3, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0];
        body.extend([31, 1, 0, 0, 0, 0, 0, 60]);
        let mut source = vec![20, 0, 1, 0];
        source.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        body.extend(source);
        assert_eq!(
            router_option(&body),
            Some(Event::RouterOption {
                interface: 3,
                source: "fe80::1".parse().ok(),
                option: vec![31, 1, 0, 0, 0, 0, 0, 60]
            })
        );
        for end in 0..body.len() {
            let _ = router_option(&body[..end]);
        }
    }

    #[test]
    fn a_links_ipv6_flags_are_news_of_their_own() {
        let mut body = vec![10, 0, 1, 0, 9, 0, 0, 0];
        body.extend([0; 8]);
        let mut builder = Builder::new(libc::RTM_NEWLINK, 0, 1, &body);
        builder
            .attribute(libc::IFLA_IFNAME, b"eth0\0")
            .attribute(libc::IFLA_PROTINFO | 0x8000, &[8, 0, 1, 0, 0x80, 0, 0, 0]);
        let bytes = builder.finish();
        let message = messages(&bytes).next().unwrap();
        assert_eq!(
            Event::decode(&message),
            Some(Event::Inet6Flags {
                interface: 9,
                flags: RA_OTHER
            })
        );
    }
}
