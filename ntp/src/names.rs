//! Which servers are configured, and when their names are looked up; pure.
//!
//! A name may stand for several servers (a pool) or for one.
//! All names together are to give [`WANTED`] servers, so a single pool name gives four and four names one each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::wall::Mono;

/// Servers to aim at: with four, one may lie and another be down (RFC 8633 section 3.2).
const WANTED: usize = 4;

/// More servers than this are not asked, whatever is configured.
pub const MOST: usize = 16;

/// NTP's port.
const PORT: u16 = 123;

/// How long a lookup's result is good: pools change hourly.
const REFRESH: Mono = Mono::from_secs(3_600);

/// How soon a lookup may be repeated because a server of that name is lost.
const REPLACE: Mono = Mono::from_secs(600);

/// How long servers whose name is still being looked up have a vote: until a second name server had its chance after
/// the 5 s that resolv.conf(5) gives the first.
const PATIENCE: Mono = Mono::from_secs(6);

/// Lookups of one name that may be under way at once: one that hangs, as in a network that is gone, must not hold up
/// those that follow it.
const LOOKUPS: u8 = 3;

/// The servers asked when nothing else is configured.
pub const DEFAULT_POOL: [&str; 4] = [
    "0.gokrazy.pool.ntp.org",
    "1.gokrazy.pool.ntp.org",
    "2.gokrazy.pool.ntp.org",
    "3.gokrazy.pool.ntp.org",
];

/// A server as people write it: `host`, `host:port`, `address`, `address:port`, `[v6]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// An address: nothing to look up.
    Address(SocketAddr),
    /// A name and a port.
    Name(String, u16),
}

/// Why a text names no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError;

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a server: expected HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or [IPV6]:PORT")
    }
}

impl std::error::Error for SpecError {}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::address(address);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Self::address((ip, PORT).into());
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| SpecError)?),
            None => (text, PORT),
        };
        if port == 0 || !is_host_name(name) {
            return Err(SpecError);
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl Spec {
    fn address(address: SocketAddr) -> Result<Self, SpecError> {
        let asks_nobody =
            address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast();
        if asks_nobody {
            return Err(SpecError);
        }
        Ok(Self::Address(address))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, PORT) => f.write_str(name),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Servers as the operator is told that they are asked; of more than [`MOST`] the rest is not.
pub fn listed(specs: &[Spec]) -> String {
    let named: Vec<String> = specs.iter().take(MOST).map(ToString::to_string).collect();
    let named = named.join(", ");
    match specs.len().saturating_sub(MOST) {
        0 => format!("asking {named}"),
        more => format!("asking {named}; not the other {more}, since {MOST} are enough"),
    }
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63; not all digits and dots, which is a mistyped address.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253
        && name.split('.').all(is_label)
        && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// How many servers each of `count` configured names may give.
pub fn share(count: usize) -> usize {
    WANTED.div_ceil(count.max(1))
}

/// One configured server, and the state of its lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What was configured.
    pub spec: Spec,
    lookup: Lookup,
    /// Until when a first lookup is waited for.
    awaited_until: Option<Mono>,
    asked_at: Option<Mono>,
    failures: u32,
    /// Lookups that have not ended yet.
    under_way: u8,
    /// How many of them began before the last one that gave addresses: their failure tells nothing.
    overtaken: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// An address: never.
    Never,
    /// Due at this time.
    At(Mono),
    /// Under way.
    Asked,
}

impl Source {
    /// A source whose name is to be looked up at once.
    pub fn new(spec: Spec, now: Mono) -> Self {
        let lookup = match spec {
            Spec::Address(_) => Lookup::Never,
            Spec::Name(..) => Lookup::At(now),
        };
        let awaited_until = (lookup != Lookup::Never).then_some(now + PATIENCE);
        Self {
            spec,
            lookup,
            awaited_until,
            asked_at: None,
            failures: 0,
            under_way: 0,
            overtaken: 0,
        }
    }

    /// When the next lookup is due.
    pub fn due(&self) -> Option<Mono> {
        match self.lookup {
            Lookup::At(at) if self.under_way < LOOKUPS => Some(at),
            Lookup::At(_) | Lookup::Never | Lookup::Asked => None,
        }
    }

    /// Until when its servers may yet have a say: its first lookup has not ended.
    pub fn awaited_until(&self) -> Option<Mono> {
        self.awaited_until
    }

    /// Ends the wait for a first lookup that hangs.
    pub fn wait_no_longer(&mut self, now: Mono) {
        self.awaited_until = self.awaited_until.filter(|until| *until > now);
    }

    /// The lookup starts.
    pub fn asked(&mut self) {
        self.lookup = Lookup::Asked;
        self.under_way = self.under_way.saturating_add(1);
    }

    /// The lookup gave addresses.
    pub fn answered(&mut self, now: Mono) {
        self.failures = 0;
        self.under_way = self.under_way.saturating_sub(1);
        self.overtaken = self.under_way;
        self.awaited_until = None;
        self.asked_at = Some(now);
        self.lookup = Lookup::At(now + REFRESH);
    }

    /// The lookup failed or gave nothing; true if this is the first time in a row.
    ///
    /// The next try follows after 1, 2, 4 … 1,024 s, stretched by `jitter` (0 to 1) of a quarter.
    pub fn failed(&mut self, now: Mono, jitter: f64) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        if self.overtaken > 0 {
            self.overtaken -= 1;
            return false;
        }
        let wait = Mono::from_secs(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.awaited_until = None;
        self.asked_at = Some(now);
        self.lookup = Lookup::At(now + wait.mul_f64(1.0 + jitter / 4.0));
        self.failures == 1
    }

    /// A server of this name is lost: look for another soon.
    pub fn replace(&mut self, now: Mono) {
        if let (Lookup::At(at), Some(asked_at)) = (self.lookup, self.asked_at) {
            self.lookup = Lookup::At(at.min(now.max(asked_at + REPLACE)));
        }
    }

    /// It is wished: look it up at once.
    pub fn renew(&mut self, now: Mono) {
        if let Lookup::At(at) = &mut self.lookup {
            *at = (*at).min(now);
        }
    }

    /// The network changed: what failed before, or is under way and was asked of another network, is tried at once.
    pub fn hurry(&mut self, now: Mono) {
        self.failures = self.failures.min(1);
        if self.failures > 0 || self.lookup == Lookup::Asked {
            self.lookup = Lookup::At(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_people_write_them() {
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1:123"),
            ("192.0.2.1:1123", "192.0.2.1:1123"),
            ("2001:db8::1", "[2001:db8::1]:123"),
            ("[2001:db8::1]", "[2001:db8::1]:123"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
            ("pool.ntp.org", "pool.ntp.org"),
            ("time_1.example.org.:99", "time_1.example.org.:99"),
            ("localhost:123", "localhost"),
        ] {
            assert_eq!(
                text.parse::<Spec>().map(|s| s.to_string()),
                Ok(want.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            ":123",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "a b",
            "1.2.3",
            "1.2.3.4.5",
            "a..b",
            "[::1",
            "0.0.0.0",
            "192.0.2.1:0",
            "::",
            "224.0.1.1",
            "-",
            "http://x",
            "a/b",
        ] {
            assert_eq!(text.parse::<Spec>(), Err(SpecError), "{text}");
        }
    }

    #[test]
    fn more_servers_than_enough_are_told_of() {
        let specs: Vec<Spec> = (1..=18)
            .map(|last| format!("192.0.2.{last}").parse().unwrap())
            .collect();
        assert_eq!(listed(&specs[..1]), "asking 192.0.2.1:123");
        let all = listed(&specs);
        assert!(
            all.ends_with("192.0.2.16:123; not the other 2, since 16 are enough"),
            "{all}"
        );
    }

    #[test]
    fn names_share_four_servers() {
        assert_eq!([1, 2, 3, 4, 9].map(share), [4, 2, 2, 1, 1]);
    }

    fn name() -> Source {
        Source::new("pool.ntp.org".parse().unwrap(), Mono::ZERO)
    }

    #[test]
    fn failures_back_off_and_the_network_hurries() {
        let mut source = name();
        assert_eq!(source.awaited_until(), Some(PATIENCE));
        let mut now = Mono::ZERO;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024] {
            source.asked();
            assert_eq!(source.due(), None);
            assert_eq!(source.failed(now, 0.0), wait == 1);
            assert_eq!(source.due(), Some(now + Mono::from_secs(wait)));
            now += Mono::from_secs(wait);
        }
        assert_eq!(source.awaited_until(), None);
        source.hurry(now);
        assert_eq!(source.due(), Some(now));
        assert!(!source.failed(now, 0.0));
    }

    #[test]
    fn a_lookup_that_hangs_holds_up_none_for_another_network() {
        let mut source = name();
        source.asked();
        assert_eq!(source.due(), None);
        let routed = Mono::from_secs(2);
        source.hurry(routed);
        assert_eq!(source.due(), Some(routed));
        source.asked();
        source.answered(routed);
        let next = Some(routed + REFRESH);
        assert_eq!(source.due(), next);
        // The one that hung ends now, and tells nothing.
        assert!(!source.failed(Mono::from_secs(5), 0.0));
        assert_eq!(source.due(), next);
        source.asked();
        assert!(source.failed(Mono::from_secs(3_602), 0.0));
        assert_eq!(source.due(), Some(Mono::from_secs(3_603)));
    }

    #[test]
    fn lookups_that_hang_are_few() {
        let mut source = name();
        for second in 0..u64::from(LOOKUPS) {
            source.hurry(Mono::from_secs(second));
            assert_eq!(source.due(), Some(Mono::from_secs(second)));
            source.asked();
        }
        source.hurry(Mono::from_secs(9));
        assert_eq!(source.due(), None);
        source.failed(Mono::from_secs(10), 0.0);
        assert_eq!(source.due(), Some(Mono::from_secs(11)));
    }

    #[test]
    fn a_lost_server_brings_the_lookup_forward_but_not_at_once() {
        let mut source = name();
        source.answered(Mono::ZERO);
        source.hurry(Mono::from_secs(5));
        assert_eq!(source.due(), Some(REFRESH));
        source.replace(Mono::from_secs(10));
        assert_eq!(source.due(), Some(REPLACE));
        source.replace(Mono::from_secs(900));
        assert_eq!(source.due(), Some(REPLACE));
        source.renew(Mono::from_secs(20));
        assert_eq!(source.due(), Some(Mono::from_secs(20)));
    }

    #[test]
    fn addresses_are_never_looked_up() {
        let mut source = Source::new("192.0.2.1".parse().unwrap(), Mono::ZERO);
        source.hurry(Mono::ZERO);
        source.replace(Mono::ZERO);
        source.renew(Mono::ZERO);
        assert_eq!(source.due(), None);
        assert_eq!(source.awaited_until(), None);
    }
}
