//! Which addresses are to be served, and what must be opened and closed for it; pure.
//!
//! Sockets are [`super::listeners`]'s.

use std::net::SocketAddr;

use gokrazy_core::addresses::Addresses;

use super::config::{Listen, loopback, with_zone};

/// Most listeners; a machine with more private addresses serves the first ones.
const MAX_LISTENERS: usize = 64;

/// What to serve, without repetition; `addresses` is `None` while init says nothing.
///
/// Addresses of an interface that has just gone cannot be resolved and are left out; init's next file settles it.
pub fn wanted(listen: &Listen, addresses: Option<&Addresses>) -> Vec<SocketAddr> {
    let mut wanted: Vec<SocketAddr> = match (listen, addresses) {
        (Listen::Fixed(fixed), _) => fixed.clone(),
        (Listen::Private(port), None) => loopback()
            .map(|address| SocketAddr::new(address, *port))
            .to_vec(),
        (Listen::Private(port), Some(addresses)) => addresses
            .private
            .iter()
            .filter_map(|address| with_zone(address, *port))
            .collect(),
    };
    wanted.sort_unstable();
    wanted.dedup();
    wanted.truncate(MAX_LISTENERS);
    wanted
}

/// What to do about the listeners.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Held and no longer wanted; closed first, since a wildcard may stand in the way of what is opened.
    pub close: Vec<SocketAddr>,
    /// Wanted and not held.
    pub open: Vec<SocketAddr>,
}

/// The way from the addresses held to those wanted.
pub fn change(held: &[SocketAddr], wanted: &[SocketAddr]) -> Change {
    let without = |from: &[SocketAddr], what: &[SocketAddr]| {
        from.iter()
            .filter(|address| !what.contains(address))
            .copied()
            .collect()
    };
    Change {
        close: without(held, wanted),
        open: without(wanted, held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(private: &[&str]) -> Addresses {
        Addresses {
            private: private.iter().map(|&text| text.to_owned()).collect(),
            public: vec!["2001:db8::1".to_owned()],
            no_carrier: Vec::new(),
        }
    }

    fn texts(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn loopback_while_init_says_nothing() {
        let listen = wanted(&Listen::Private(80), None);
        assert_eq!(texts(&listen), ["127.0.0.1:80", "[::1]:80"]);
    }

    #[test]
    fn private_addresses_only_each_once() {
        let file = addresses(&[
            "127.0.0.1",
            "fe80::1%1",
            "10.0.0.5",
            "10.0.0.5",
            "garbage",
            "fe80::1%gone",
        ]);
        let listen = wanted(&Listen::Private(8080), Some(&file));
        assert_eq!(
            texts(&listen),
            ["10.0.0.5:8080", "127.0.0.1:8080", "[fe80::1%1]:8080"]
        );
    }

    #[test]
    fn fixed_addresses_follow_nothing() {
        let fixed = vec!["192.0.2.1:8080".parse().unwrap()];
        assert_eq!(
            wanted(
                &Listen::Fixed(fixed.clone()),
                Some(&addresses(&["10.0.0.5"]))
            ),
            fixed
        );
    }

    #[test]
    fn the_way_from_held_to_wanted() {
        let [a, b, c] = [1, 2, 3].map(|n| SocketAddr::from(([10, 0, 0, n], 80)));
        let both = change(&[a, b], &[b, c]);
        assert_eq!(
            both,
            Change {
                close: vec![a],
                open: vec![c]
            }
        );
        assert_eq!(
            change(&[a], &[a]),
            Change {
                close: vec![],
                open: vec![]
            }
        );
    }
}
