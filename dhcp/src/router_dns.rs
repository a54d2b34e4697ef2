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
    servers: Vec<Entry<Ipv6Addr>>,
    search: Vec<Entry<String>>,
}

/// Something that one router has said; another one that says the same has an entry of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry<T> {
    item: T,
    router: Option<Ipv6Addr>,
    /// When it is over, if ever.
    until: Option<Moment>,
}

impl RouterDns {
    /// Takes an option of a router, type and length included; says whether the lists have changed.
    pub fn take(&mut self, option: &[u8], router: Option<Ipv6Addr>, now: Moment) -> bool {
        let before = (self.servers(), self.search());
        if let Some((kind, lifetime, payload)) = split(option) {
            let until = match lifetime {
                FOREVER => None,
                seconds => Some(now.after(Duration::from_secs(seconds.into()))),
            };
            match kind {
                RDNSS => {
                    for item in servers(payload) {
                        let entry = Entry {
                            item,
                            router,
                            until,
                        };
                        keep(&mut self.servers, entry, lifetime);
                    }
                }
                DNSSL => {
                    for item in names_of(payload) {
                        let entry = Entry {
                            item,
                            router,
                            until,
                        };
                        keep(&mut self.search, entry, lifetime);
                    }
                }
                _ => {}
            }
        }
        before != (self.servers(), self.search())
    }

    /// Drops what is over; says whether the lists have changed.
    pub fn expire(&mut self, now: Moment) -> bool {
        let before = (self.servers(), self.search());
        let stands = |until: Option<Moment>| until.is_none_or(|until| until > now);
        self.servers.retain(|entry| stands(entry.until));
        self.search.retain(|entry| stands(entry.until));
        before != (self.servers(), self.search())
    }

    /// Forgets everything: the link is another one now.
    pub fn clear(&mut self) -> bool {
        let held = !self.servers.is_empty() || !self.search.is_empty();
        *self = Self::default();
        held
    }

    /// When something will be over.
    pub fn deadline(&self) -> Option<Moment> {
        let servers = self.servers.iter().map(|entry| entry.until);
        let search = self.search.iter().map(|entry| entry.until);
        servers.chain(search).fold(None, earlier)
    }

    /// The servers, in the order of their arrival.
    pub fn servers(&self) -> Vec<Ipv6Addr> {
        distinct(&self.servers)
    }

    /// The search list, likewise.
    pub fn search(&self) -> Vec<String> {
        distinct(&self.search)
    }
}

fn distinct<T: Clone + PartialEq>(list: &[Entry<T>]) -> Vec<T> {
    let mut found = Vec::new();
    for entry in list {
        if !found.contains(&entry.item) {
            found.push(entry.item.clone());
        }
    }
    found
}

fn keep<T: PartialEq>(list: &mut Vec<Entry<T>>, new: Entry<T>, lifetime: u32) {
    let same = |held: &Entry<T>| held.item == new.item && held.router == new.router;
    match (list.iter().position(same), lifetime) {
        (Some(at), 0) => drop(list.remove(at)),
        (None, 0) => {}
        (Some(at), _) => {
            if let Some(held) = list.get_mut(at) {
                held.until = new.until;
            }
        }
        (None, _) if list.len() < MOST => list.push(new),
        (None, _) => make_room(list, new),
    }
}

/// What ends first makes room for what lasts longer (RFC 8106 §6.2), among what the same router has said; for one that
/// has clearly less than another one, that one's makes room in any case: none keeps the others out.
fn make_room<T>(list: &mut [Entry<T>], new: Entry<T>) {
    let count = |router: Option<Ipv6Addr>| list.iter().filter(|held| held.router == router).count();
    let routers = list.iter().map(|held| held.router);
    let Some(longest) = routers.max_by_key(|router| count(*router)) else {
        return;
    };
    let own = count(new.router);
    let is_behind = own < count(longest).saturating_sub(1);
    let from = match (is_behind, own) {
        (true, _) => Some(longest),
        (false, 0) => None,
        (false, _) => Some(new.router),
    };
    let end = |until: Option<Moment>| until.map_or(u64::MAX, Moment::as_millis);
    let first = list
        .iter_mut()
        .filter(|held| from.is_none_or(|router| held.router == router))
        .min_by_key(|held| end(held.until));
    if let Some(first) = first.filter(|first| is_behind || end(first.until) < end(new.until)) {
        *first = new;
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

    /// What one router says.
    trait Heard {
        fn hear(&mut self, option: &[u8], now: Moment) -> bool;
    }

    impl Heard for RouterDns {
        fn hear(&mut self, option: &[u8], now: Moment) -> bool {
            self.take(option, "fe80::1".parse().ok(), now)
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn servers_come_and_end_with_their_lifetimes() {
        let mut dns = RouterDns::default();
        assert!(dns.hear(&rdnss(100, &["2001:db8::53", "fe80::1"]), at(0)));
        assert!(!dns.hear(&rdnss(200, &["2001:db8::53"]), at(50)));
        assert_eq!(dns.deadline(), Some(at(100)));
        assert!(dns.expire(at(100)));
        assert_eq!(dns.servers(), ["2001:db8::53".parse::<Ipv6Addr>().unwrap()]);
        assert!(dns.hear(&rdnss(0, &["2001:db8::53"]), at(101)));
        assert_eq!((dns.servers().len(), dns.deadline()), (0, None));
        assert!(dns.hear(&rdnss(FOREVER, &["2001:db8::53"]), at(102)));
        assert_eq!(dns.deadline(), None);
        assert!(dns.clear() && !dns.clear());
    }

    #[test]
    fn search_lists_are_read_and_checked() {
        let mut dns = RouterDns::default();
        dns.hear(&dnssl(60, b"\x07example\x03org\x00\x03lan\x00"), at(0));
        assert_eq!(dns.search(), ["example.org", "lan"]);
        dns.clear();
        dns.hear(&dnssl(60, b"\x02ok\x00\x04a\nb \x00\x3f"), at(0));
        assert_eq!(dns.search(), ["ok"]);
    }

    #[test]
    fn unsound_options_change_nothing() {
        let mut dns = RouterDns::default();
        let good = rdnss(60, &["2001:db8::53"]);
        for end in 0..good.len() {
            assert!(!dns.hear(&good[..end], at(0)), "{end}");
        }
        for value in [0, 1, 2, 4, 255] {
            let mut bad = good.clone();
            bad[1] = value;
            assert!(!dns.hear(&bad, at(0)), "length {value}");
        }
        assert!(!dns.hear(&rdnss(60, &["ff02::1", "::", "::1"]), at(0)));
    }

    #[test]
    fn a_chatty_router_is_bounded() {
        let mut dns = RouterDns::default();
        for number in 0..100 {
            let server = format!("2001:db8::{number:x}");
            dns.hear(&rdnss(60, &[&server]), at(0));
        }
        assert_eq!(dns.servers().len(), MOST);
        let first: Ipv6Addr = "2001:db8::".parse().unwrap();
        assert!(dns.servers().contains(&first));
        dns.hear(&rdnss(61, &["2001:db8:1::1"]), at(0));
        assert_eq!(dns.servers().len(), MOST);
        assert!(!dns.servers().contains(&first));
    }

    #[test]
    fn no_router_keeps_another_one_out() {
        let mut dns = RouterDns::default();
        let (greedy, modest) = ("fe80::bad".parse().ok(), "fe80::2".parse().ok());
        let many: Vec<String> = (0..8).map(|n| format!("2001:db8:bad::{n:x}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        dns.take(&rdnss(FOREVER, &many), greedy, at(0));
        let own = ["2001:db8::53", "2001:db8::54"];
        assert!(dns.take(&rdnss(600, &own), modest, at(1)));
        dns.take(&rdnss(FOREVER, &many), greedy, at(2));
        let held = dns.servers();
        assert_eq!(held.len(), MOST);
        for server in own {
            assert!(held.contains(&server.parse().unwrap()), "{held:?}");
        }
        // Nor does one take back what another one has said.
        dns.take(&rdnss(0, &own), greedy, at(3));
        assert_eq!(dns.servers(), held);
        assert!(dns.take(&rdnss(0, &own), modest, at(4)));
    }
}
