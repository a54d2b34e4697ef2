//! The console's line that tells where the page is, for who has a serial cable and no other way to know; pure.
//!
//! Addresses come from the network: whoever can make them come and go cannot fill the console by it.

use std::net::{IpAddr, Ipv6Addr};

use gokrazy_core::addresses::Addresses;

use super::allowance::Allowance;
use crate::supervise::Moment;

/// HTTP's own port, which needs no telling.
const HTTP: u16 = 80;

/// What was told, and how often more may be told.
#[derive(Debug, Default)]
pub struct PageLine {
    told: String,
    allowance: Allowance,
}

impl PageLine {
    /// The line for these addresses, if it is another one than the last, and not one too many.
    pub fn next(&mut self, addresses: &Addresses, port: u16, now: Moment) -> Option<String> {
        let urls = urls(addresses, port);
        if urls.is_empty() || urls == self.told || !self.allowance.take(now) {
            return None;
        }
        self.told = urls;
        Some(format!("the page is at {}", self.told))
    }
}

/// The page's addresses as a browser takes them: web serves the private ones; loopback is no way in, and a zone, which
/// link-local addresses need, is none that a browser knows.
fn urls(addresses: &Addresses, port: u16) -> String {
    let port = match port {
        HTTP => String::new(),
        other => format!(":{other}"),
    };
    let usable = addresses.private.iter().filter_map(|text| {
        let address: IpAddr = text.parse().ok()?;
        match address {
            _ if address.is_loopback() => None,
            IpAddr::V4(v4) => Some(format!("http://{v4}{port}/")),
            IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6) => None,
            IpAddr::V6(v6) => Some(format!("http://[{v6}]{port}/")),
        }
    });
    usable.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::allowance::ONE_MORE;
    use super::*;

    fn private(addresses: &[&str]) -> Addresses {
        Addresses {
            private: addresses.iter().map(|&text| text.to_owned()).collect(),
            public: vec!["2001:db8::1".to_owned()],
            no_carrier: Vec::new(),
        }
    }

    #[test]
    fn a_browsers_addresses_and_no_others() {
        let all = private(&["127.0.0.1", "10.0.0.7", "::1", "fe80::1%eth0", "fd00::7"]);
        assert_eq!(urls(&all, 80), "http://10.0.0.7/ http://[fd00::7]/");
        assert_eq!(urls(&private(&["10.0.0.7"]), 8080), "http://10.0.0.7:8080/");
        assert_eq!(urls(&private(&["127.0.0.1", "fe80::1%eth0"]), 80), "");
    }

    #[test]
    fn each_change_is_told_once_and_a_flood_is_not() {
        let mut line = PageLine::default();
        let second = Duration::from_secs(1);
        let of = |number: u64| private(&[&format!("10.0.0.{}", number % 250)]);
        assert_eq!(line.next(&private(&["127.0.0.1"]), 80, second), None);
        let first = line.next(&of(1), 80, second);
        assert_eq!(first.as_deref(), Some("the page is at http://10.0.0.1/"));
        assert_eq!(line.next(&of(1), 80, second), None);
        let told = (2..200).filter(|&number| line.next(&of(number), 80, second).is_some());
        assert_eq!(told.count(), 4);
        assert!(line.next(&of(7), 80, ONE_MORE + second).is_some());
        assert_eq!(line.next(&of(8), 80, ONE_MORE + second), None);
    }
}
