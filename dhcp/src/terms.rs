//! What a server offers or grants, checked; pure.
//!
//! Whoever holds [`Terms`] holds values that the kernel and our files can take: an address that a host can have, a
//! contiguous mask, names that are names.
//! An option that is unsound counts as absent.

use std::net::Ipv4Addr;
use std::time::Duration;

use gokrazy_core::lease::Ipv4;

use crate::moment::Moment;

/// Lease that is assumed when a server forgets to say (RFC 2131 demands that it says).
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3600);
/// `0xffffffff` in option 51: for ever (RFC 2131 §3.3).
pub const INFINITE: u32 = u32::MAX;

/// The terms of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The address and what comes with it.
    pub ipv4: Ipv4,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// Length of the lease; absent if it does not end.
    pub lease: Option<Duration>,
    /// The server's T1, unchecked against the others.
    pub t1: Option<Duration>,
    /// The server's T2, likewise.
    pub t2: Option<Duration>,
}

/// When a lease is to be renewed, rebound, and over; absent for what does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// T1.
    pub renew: Option<Moment>,
    /// T2.
    pub rebind: Option<Moment>,
    /// The end.
    pub expire: Option<Moment>,
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its terms.
    pub terms: Terms,
    /// When the request that it answers was sent: the lease counts from there (RFC 2131 §4.4.1).
    pub acquired: Moment,
    /// Its timers.
    pub timers: Timers,
}

impl Grant {
    /// A lease on `terms`, asked for at `acquired`.
    pub fn new(terms: Terms, acquired: Moment) -> Self {
        let timers = timers(terms.lease, terms.t1, terms.t2, acquired);
        Self {
            terms,
            acquired,
            timers,
        }
    }

    /// Whether the lease is over.
    pub fn is_over(&self, now: Moment) -> bool {
        self.timers.expire.is_some_and(|end| end <= now)
    }
}

/// T1, T2 and the end of a lease (RFC 2131 §4.4.5); the server's values count only if 0 < T1 < T2 < lease.
fn timers(
    lease: Option<Duration>,
    t1: Option<Duration>,
    t2: Option<Duration>,
    start: Moment,
) -> Timers {
    let Some(lease) = lease else {
        return Timers {
            renew: None,
            rebind: None,
            expire: None,
        };
    };
    let positive = |t: &Duration| !t.is_zero();
    let rebind = t2.filter(positive).filter(|t2| *t2 < lease);
    let rebind = rebind.unwrap_or(lease.saturating_mul(7) / 8);
    let half = lease / 2;
    let fallback = if half < rebind {
        half
    } else {
        rebind.saturating_mul(4) / 7
    };
    let renew = t1
        .filter(positive)
        .filter(|t1| *t1 < rebind)
        .unwrap_or(fallback);
    Timers {
        renew: Some(start.after(renew)),
        rebind: Some(start.after(rebind)),
        expire: Some(start.after(lease)),
    }
}

/// Length of the prefix that `mask` spells, if its ones are contiguous and there are any.
pub fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    let contiguous = bits.count_ones() == ones && ones > 0;
    contiguous.then(|| u8::try_from(ones).ok()).flatten()
}

/// The prefix of the address's class (RFC 791), for servers that send no mask.
pub fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets().first() {
        Some(0..=127) => 8,
        Some(128..=191) => 16,
        Some(_) | None => 24,
    }
}

/// The mask of `prefix`.
pub fn mask_of(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(u32::from(prefix)))
        .unwrap_or_default()
}

/// Whether a host can have `address` in a network of this prefix: not in 0/8, loopback, multicast or above, and
/// neither the network's own address nor its broadcast.
pub fn is_host(address: Ipv4Addr, prefix: u8) -> bool {
    let host_bits = !mask_of(prefix);
    let host = u32::from(address) & host_bits;
    is_unicast(address) && (prefix >= 31 || (host != 0 && host != host_bits))
}

/// Whether packets can be sent to `address` beyond this machine.
pub fn is_unicast(address: Ipv4Addr) -> bool {
    matches!(address.octets().first(), Some(1..=126 | 128..=223))
}

/// The broadcast address to configure: the server's if it fits the network, else the usual one; none for links of
/// one or two addresses.
pub fn broadcast_of(address: Ipv4Addr, prefix: u8, given: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    if prefix >= 31 {
        return None;
    }
    let network = u32::from(address) & mask_of(prefix);
    let usual = Ipv4Addr::from(network | !mask_of(prefix));
    // All zeroes in the host part is the old BSD convention, which some networks keep.
    let sound = |given: &Ipv4Addr| *given == usual || u32::from(*given) == network;
    Some(given.filter(sound).unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lease: u64, t1: Option<u64>, t2: Option<u64>, want: (u64, u64)) {
        let secs = |s: Option<u64>| s.map(Duration::from_secs);
        let start = Moment::from_secs(100);
        let got = timers(secs(Some(lease)), secs(t1), secs(t2), start);
        let relative = |m: Option<Moment>| m.unwrap().since(start).as_millis() as u64;
        assert_eq!((relative(got.renew), relative(got.rebind)), want);
        assert_eq!(relative(got.expire), lease * 1000);
    }

    #[test]
    fn silence_means_the_defaults() {
        check(1000, None, None, (500_000, 875_000));
        check(1, None, None, (500, 875));
    }

    #[test]
    fn sound_values_are_taken() {
        check(1000, Some(100), Some(200), (100_000, 200_000));
        check(1000, Some(999), None, (500_000, 875_000));
        check(1000, Some(600), None, (600_000, 875_000));
    }

    #[test]
    fn zero_inverted_infinite_and_late_values_are_not() {
        check(1000, Some(0), Some(0), (500_000, 875_000));
        check(1000, Some(900), Some(600), (500_000, 600_000));
        check(1000, Some(700), Some(400), (228_571, 400_000));
        check(1000, Some(2000), Some(3000), (500_000, 875_000));
        check(1000, Some(1000), Some(1000), (500_000, 875_000));
        check(1000, Some(u64::from(INFINITE)), None, (500_000, 875_000));
    }

    #[test]
    fn an_endless_lease_has_no_timers() {
        let got = timers(
            None,
            Some(Duration::from_secs(5)),
            None,
            Moment::from_secs(1),
        );
        assert_eq!((got.renew, got.rebind, got.expire), (None, None, None));
    }

    #[test]
    fn masks_are_contiguous_or_nothing() {
        let check = |mask: [u8; 4], want| assert_eq!(prefix_of(Ipv4Addr::from(mask)), want);
        check([255, 255, 255, 0], Some(24));
        check([255; 4], Some(32));
        check([128, 0, 0, 0], Some(1));
        check([0; 4], None);
        check([255, 0, 255, 0], None);
        check([0, 255, 255, 255], None);
        assert_eq!(
            (mask_of(0), mask_of(8), mask_of(32)),
            (0, 0xff00_0000, u32::MAX)
        );
    }

    #[test]
    fn hosts_are_told_from_other_addresses() {
        let host = |a: [u8; 4], prefix| is_host(Ipv4Addr::from(a), prefix);
        assert!(host([192, 0, 2, 17], 24) && host([192, 0, 2, 0], 31) && host([10, 0, 0, 0], 32));
        assert!(!host([192, 0, 2, 0], 24) && !host([192, 0, 2, 255], 24));
        assert!(!host([0, 0, 0, 0], 24) && !host([0, 1, 2, 3], 24) && !host([127, 0, 0, 1], 8));
        assert!(!host([224, 0, 0, 1], 24) && !host([255; 4], 32) && !host([240, 0, 0, 1], 24));
    }

    #[test]
    fn broadcast_addresses_fit_the_network() {
        let address = Ipv4Addr::new(192, 0, 2, 17);
        let usual = Some(Ipv4Addr::new(192, 0, 2, 255));
        let old = Ipv4Addr::new(192, 0, 2, 0);
        assert_eq!(broadcast_of(address, 24, None), usual);
        assert_eq!(
            broadcast_of(address, 24, Some(Ipv4Addr::new(10, 0, 0, 1))),
            usual
        );
        assert_eq!(broadcast_of(address, 24, Some(old)), Some(old));
        assert_eq!(broadcast_of(address, 32, Some(old)), None);
    }
}
