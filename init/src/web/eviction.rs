//! Who makes room when there are too many connections; pure.
//!
//! A connection that has shown no password is the first to go, the oldest first, once it has had its chance; so
//! nobody without the password can keep others out, however many connections he opens and however slowly he writes.
//! Who holds more than his share of them has had his chance: however fast he opens them, nobody waits for his.
//! A share is first an address's, so that a flood from one host costs its neighbours nothing, and then that of an IPv6
//! /64, of which one host can take any number of addresses.
//! Whose password is being checked goes after those who show none and have had their chance: [`super::throttle`] lets
//! few of a /64 be checked at a time, so that checks alone do not fill the table.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::connections::MAX_CONNECTIONS;
use super::throttle::Source;

/// For so long a connection may be silent without making room: a slow machine behind a slow link needs some.
pub const GRACE: Duration = Duration::from_secs(2);

/// Connections without password that one address or /64 may have before one of them makes room at once.
pub const SHARE: usize = MAX_CONNECTIONS / 4;

/// What a connection has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No password.
    Stranger,
    /// One that is being checked.
    Checking,
    /// The right one, or the kernel vouches for the peer.
    Proven,
}

/// An open connection, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The other end, an IPv4 address always as one (not mapped into IPv6).
    pub address: IpAddr,
    /// When it was accepted.
    pub since: Instant,
    /// What it has shown.
    pub standing: Standing,
}

/// How there will be room.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection of this place in the list goes.
    Evict(usize),
    /// Look again in so long.
    In(Duration),
    /// One must leave by itself.
    WhenOneLeaves,
}

/// Chooses among `all` open connections.
pub fn choose(all: &[Candidate], now: Instant) -> Verdict {
    let by_address = |candidate: &Candidate| candidate.address;
    let by_source = |candidate: &Candidate| Source::from(candidate.address);
    if let Some(victim) = greedy(all, by_address).or_else(|| greedy(all, by_source)) {
        return Verdict::Evict(victim);
    }
    let age = |candidate: &Candidate| now.saturating_duration_since(candidate.since);
    if let Some(victim) = first_to_go(all, |candidate| age(candidate) >= GRACE) {
        return Verdict::Evict(victim);
    }
    let young = all.iter().filter(|candidate| may_go(candidate));
    let oldest = young.map(age).max();
    oldest.map_or(Verdict::WhenOneLeaves, |age| {
        Verdict::In(GRACE.saturating_sub(age))
    })
}

/// The first to go of who has the most connections without password, if they are more than a [`SHARE`].
fn greedy<K: PartialEq>(all: &[Candidate], of: impl Fn(&Candidate) -> K) -> Option<usize> {
    let mut counts: Vec<(K, usize)> = Vec::new();
    for candidate in all.iter().filter(|candidate| may_go(candidate)) {
        let key = of(candidate);
        match counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((key, 1)),
        }
    }
    let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    if count <= SHARE {
        return None;
    }
    first_to_go(all, |candidate| of(candidate) == most)
}

/// The place of the oldest that shows no password, or else of the oldest whose is being checked.
fn first_to_go(all: &[Candidate], is_meant: impl Fn(&Candidate) -> bool) -> Option<usize> {
    all.iter()
        .enumerate()
        .filter(|(_, candidate)| may_go(candidate) && is_meant(candidate))
        .min_by_key(|(_, candidate)| (candidate.standing, candidate.since))
        .map(|(place, _)| place)
}

/// Whether it may be asked to go at all.
fn may_go(candidate: &Candidate) -> bool {
    candidate.standing != Standing::Proven
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// A full table: connection `n` comes from `address(n)`, is `n` seconds old, and has shown `standing(n)`.
    ///
    /// With it the moment at which it is so.
    fn full(
        address: impl Fn(u16) -> IpAddr,
        standing: impl Fn(u16) -> Standing,
    ) -> (Vec<Candidate>, Instant) {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
        let now = Instant::now() + Duration::from_secs(1000);
        let candidate = |n: u16| Candidate {
            address: address(n),
            since: now.checked_sub(Duration::from_secs(n.into())).unwrap(),
            standing: standing(n),
        };
        let count = u16::try_from(MAX_CONNECTIONS).unwrap();
        ((0..count).map(candidate).collect(), now)
    }

    /// Host `n` of one /64.
    fn neighbour(n: u16) -> IpAddr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n).into()
    }

    /// Somebody of a /64 of his own.
    fn stranger(n: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 1).into()
    }

    #[track_caller]
    fn check((all, now): (Vec<Candidate>, Instant), want: Verdict) {
        assert_eq!(choose(&all, now), want);
    }

    /// As [`full`], when the first connection was opened: all are young.
    fn young((all, now): (Vec<Candidate>, Instant)) -> (Vec<Candidate>, Instant) {
        (all, now.checked_sub(Duration::from_secs(1000)).unwrap())
    }

    #[test]
    fn the_oldest_without_password_makes_room_once_it_had_its_chance() {
        let proven_from = |from: u16| {
            move |n| match n >= from {
                true => Standing::Proven,
                false => Standing::Stranger,
            }
        };
        check(full(stranger, proven_from(101)), Verdict::Evict(100));
        let second = Duration::from_secs(1);
        check(full(stranger, proven_from(2)), Verdict::In(second));
        check(full(stranger, proven_from(0)), Verdict::WhenOneLeaves);
    }

    #[test]
    fn nobody_waits_for_the_connections_of_who_has_too_many() {
        let share = u16::try_from(SHARE).unwrap();
        let silent = |_| Standing::Stranger;
        let within = young(full(|n| stranger(n / share), silent));
        check(within, Verdict::In(GRACE));
        let greedy = |n| {
            if n > 100 {
                stranger(7)
            } else {
                stranger(n + 1000)
            }
        };
        let proven = |n| match n == 255 {
            true => Standing::Proven,
            false => Standing::Stranger,
        };
        check(young(full(greedy, proven)), Verdict::Evict(254));
    }

    #[test]
    fn a_flood_from_one_address_spares_its_neighbours() {
        // The one who logs in has the oldest connection of all.
        let address = |n| neighbour(if n == 255 { 2 } else { 1 });
        let silent = |_| Standing::Stranger;
        check(young(full(address, silent)), Verdict::Evict(254));
        check(full(address, silent), Verdict::Evict(254));
    }

    #[test]
    fn whose_password_is_being_checked_stays_in_a_flood_from_all_of_a_net() {
        let checking = |n| match n >= 250 {
            true => Standing::Checking,
            false => Standing::Stranger,
        };
        check(young(full(neighbour, checking)), Verdict::Evict(249));
        check(full(neighbour, checking), Verdict::Evict(249));
        check(full(stranger, checking), Verdict::Evict(249));
    }

    #[test]
    fn checks_alone_keep_nobody_out() {
        check(full(stranger, |_| Standing::Checking), Verdict::Evict(255));
        check(
            young(full(stranger, |_| Standing::Checking)),
            Verdict::In(GRACE),
        );
    }
}
