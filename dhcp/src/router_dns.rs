//! Name servers and search lists of router advertisements (RFC 8106), as the kernel hands them on; pure.
//!
//! Addresses, prefixes and routes of advertisements are the kernel's business; it passes what it has no use for.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::moment::{Moment, earlier};
use crate::names;

/// Recursive DNS server option.
const RDNSS: u8 = 25;
/// DNS search list option.
const DNSSL: u8 = 31;
/// A lifetime that does not end.
const FOREVER: u32 = u32::MAX;
/// Most servers and names kept of all advertisements on a link (RFC 8106 §5.3.1 asks for at least three).
const MOST: usize = 8;

/// What routers on one link have said and what still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterDns {
    servers: Vec<(Ipv6Addr, Option<Moment>)>,
    search: Vec<(String, Option<Moment>)>,
}

impl RouterDns {
    /// Takes an option, type and length included; says whether the lists have changed.
    pub fn take(&mut self, option: &[u8], now: Moment) -> bool {
        let before = (self.servers(), self.search());
        if let Some((kind, lifetime, payload)) = split(option) {
            let until = match lifetime {
                FOREVER => None,
                seconds => Some(now.after(Duration::from_secs(seconds.into()))),
            };
            match kind {
                RDNSS => {
                    for server in servers(payload) {
                        keep(&mut self.servers, server, lifetime, until);
                    }
                }
                DNSSL => {
                    for name in names_of(payload) {
                        keep(&mut self.search, name, lifetime, until);
                    }
                }
                _ => {}
            }
        }
        before != (self.servers(), self.search())
    }

    /// Drops what is over; says whether the lists have changed.
    pub fn expire(&mut self, now: Moment) -> bool {
        let before = self.servers.len().saturating_add(self.search.len());
        let stands = |until: &Option<Moment>| until.is_none_or(|until| until > now);
        self.servers.retain(|(_, until)| stands(until));
        self.search.retain(|(_, until)| stands(until));
        before != self.servers.len().saturating_add(self.search.len())
    }

    /// Forgets everything: the link is another one now.
    pub fn clear(&mut self) -> bool {
        let held = !self.servers.is_empty() || !self.search.is_empty();
        *self = Self::default();
        held
    }

    /// When something will be over.
    pub fn deadline(&self) -> Option<Moment> {
        let servers = self.servers.iter().map(|(_, until)| *until);
        let search = self.search.iter().map(|(_, until)| *until);
        servers.chain(search).fold(None, earlier)
    }

    /// The servers, in the order of their arrival.
    pub fn servers(&self) -> Vec<Ipv6Addr> {
        self.servers.iter().map(|(server, _)| *server).collect()
    }

    /// The search list, likewise.
    pub fn search(&self) -> Vec<String> {
        self.search.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn keep<T: PartialEq>(
    list: &mut Vec<(T, Option<Moment>)>,
    item: T,
    lifetime: u32,
    until: Option<Moment>,
) {
    let held = list.iter().position(|(held, _)| *held == item);
    match (held, lifetime) {
        (Some(at), 0) => drop(list.remove(at)),
        (None, 0) => {}
        (Some(at), _) => {
            if let Some(entry) = list.get_mut(at) {
                entry.1 = until;
            }
        }
        (None, _) if list.len() < MOST => list.push((item, until)),
        // What ends first makes room for what lasts longer (RFC 8106 §6.2).
        (None, _) => {
            let end = |until: Option<Moment>| until.map_or(u64::MAX, Moment::as_millis);
            let first = list.iter_mut().min_by_key(|(_, until)| end(*until));
            if let Some(first) = first.filter(|first| end(first.1) < end(until)) {
                *first = (item, until);
            }
        }
    }
}

/// Type, lifetime and the rest, if the option is as long as it says: eights of octets, at least two of them.
fn split(option: &[u8]) -> Option<(u8, u32, &[u8])> {
    let [kind, eights, _, _, rest @ ..] = option else {
        return None;
    };
    let len = usize::from(*eights).saturating_mul(8);
    let (lifetime, payload) = rest.split_first_chunk()?;
    let sound = len >= 16 && len == option.len();
    sound.then_some((*kind, u32::from_be_bytes(*lifetime), payload))
}

fn servers(payload: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    let addresses = payload.chunks_exact(16);
    let addresses = addresses.filter_map(|chunk| chunk.first_chunk::<16>());
    let addresses = addresses.map(|octets| Ipv6Addr::from(*octets));
    addresses.filter(|server| {
        !server.is_unspecified() && !server.is_multicast() && !server.is_loopback()
    })
}

/// Names as sequences of labels, never compressed, padded with zeroes; those before a malformed one stand.
fn names_of(payload: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut rest = payload;
    while let [len, after @ ..] = rest {
        if *len == 0 {
            if !labels.is_empty() {
                found.extend(names::domain(&labels.join(&b'.')));
                labels.clear();
            }
            rest = after;
            continue;
        }
        match after.split_at_checked(usize::from(*len)) {
            Some((label, after)) if *len < 64 => {
                labels.push(label);
                rest = after;
            }
            Some(_) | None => break,
        }
    }
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdnss(lifetime: u32, servers: &[&str]) -> Vec<u8> {
        let mut option = vec![25, u8::try_from(1 + 2 * servers.len()).unwrap(), 0, 0];
        option.extend(lifetime.to_be_bytes());
        for server in servers {
            option.extend(server.parse::<Ipv6Addr>().unwrap().octets());
        }
        option
    }

    fn dnssl(lifetime: u32, payload: &[u8]) -> Vec<u8> {
        let mut option = vec![31, 0, 0, 0];
        option.extend(lifetime.to_be_bytes());
        option.extend(payload);
        option.resize(option.len().next_multiple_of(8), 0);
        option[1] = u8::try_from(option.len() / 8).unwrap();
        option
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn servers_come_and_end_with_their_lifetimes() {
        let mut dns = RouterDns::default();
        assert!(dns.take(&rdnss(100, &["2001:db8::53", "fe80::1"]), at(0)));
        assert!(!dns.take(&rdnss(200, &["2001:db8::53"]), at(50)));
        assert_eq!(dns.deadline(), Some(at(100)));
        assert!(dns.expire(at(100)));
        assert_eq!(dns.servers(), ["2001:db8::53".parse::<Ipv6Addr>().unwrap()]);
        assert!(dns.take(&rdnss(0, &["2001:db8::53"]), at(101)));
        assert_eq!((dns.servers().len(), dns.deadline()), (0, None));
        assert!(dns.take(&rdnss(FOREVER, &["2001:db8::53"]), at(102)));
        assert_eq!(dns.deadline(), None);
        assert!(dns.clear() && !dns.clear());
    }

    #[test]
    fn search_lists_are_read_and_checked() {
        let mut dns = RouterDns::default();
        dns.take(&dnssl(60, b"\x07example\x03org\x00\x03lan\x00"), at(0));
        assert_eq!(dns.search(), ["example.org", "lan"]);
        dns.clear();
        dns.take(&dnssl(60, b"\x02ok\x00\x04a\nb \x00\x3f"), at(0));
        assert_eq!(dns.search(), ["ok"]);
    }

    #[test]
    fn unsound_options_change_nothing() {
        let mut dns = RouterDns::default();
        let good = rdnss(60, &["2001:db8::53"]);
        for end in 0..good.len() {
            assert!(!dns.take(&good[..end], at(0)), "{end}");
        }
        for value in [0, 1, 2, 4, 255] {
            let mut bad = good.clone();
            bad[1] = value;
            assert!(!dns.take(&bad, at(0)), "length {value}");
        }
        assert!(!dns.take(&rdnss(60, &["ff02::1", "::", "::1"]), at(0)));
    }

    #[test]
    fn a_chatty_router_is_bounded() {
        let mut dns = RouterDns::default();
        for number in 0..100 {
            let server = format!("2001:db8::{number:x}");
            dns.take(&rdnss(60, &[&server]), at(0));
        }
        assert_eq!(dns.servers().len(), MOST);
        let first: Ipv6Addr = "2001:db8::".parse().unwrap();
        assert!(dns.servers().contains(&first));
        dns.take(&rdnss(61, &["2001:db8:1::1"]), at(0));
        assert_eq!(dns.servers().len(), MOST);
        assert!(!dns.servers().contains(&first));
    }
}
