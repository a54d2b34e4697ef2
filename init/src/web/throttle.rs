//! Slows down whoever guesses passwords, one source at a time; pure.
//!
//! A source is an IPv4 address or an IPv6 /64 (what one machine can pick addresses from).
//! There is no lock-out: a source's next answer is late, others notice nothing, and who has shown the right
//! password before is never asked to wait, since that check needs no hashing.
//! Delays of one source add up, and its next guess is not looked at before they are over: neither guesses side by side
//! nor guesses whose answer nobody waits for make more of them.
//! The table is bounded; when it is full, the source whose last failure is oldest makes room.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Delay after the first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// Longest delay: an attacker gets 30 guesses a minute, and a person is not driven away.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// A source that has been quiet for so long starts anew.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Sources remembered: 64 bytes each.
const MAX_SOURCES: usize = 256;
/// Checks of one source that may wait for their turn; a browser does not open more connections than 6.
const MAX_WAITING: u32 = 8;

/// Whom a request came from, as far as guessing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

#[derive(Debug)]
struct Record {
    source: Source,
    failures: u32,
    waiting: u32,
    last: Instant,
    /// When all delays so far are over.
    free_at: Instant,
}

/// What is known of sources that failed of late.
#[derive(Debug, Default)]
pub struct Throttle {
    records: Vec<Record>,
}

impl Throttle {
    /// Asks for a check of a password from `source`; says how long it must wait first, or `None` if too many of its
    /// checks wait already.
    ///
    /// A duration must be answered by one [`Throttle::leave`].
    #[must_use]
    pub fn enter(&mut self, source: Source, now: Instant) -> Option<Duration> {
        self.records.retain(|record| {
            record.waiting > 0 || now.saturating_duration_since(record.last) < FORGET_AFTER
        });
        if let Some(record) = self.record(source) {
            let admitted = record.waiting < MAX_WAITING;
            record.waiting = record.waiting.saturating_add(u32::from(admitted));
            return admitted.then(|| record.free_at.saturating_duration_since(now));
        }
        if self.records.len() >= MAX_SOURCES && !self.make_room() {
            return None;
        }
        self.records.push(Record {
            source,
            failures: 0,
            waiting: 1,
            last: now,
            free_at: now,
        });
        Some(Duration::ZERO)
    }

    /// A check that [`Throttle::enter`] admitted has ended, in whatever way.
    pub fn leave(&mut self, source: Source) {
        if let Some(record) = self.record(source) {
            record.waiting = record.waiting.saturating_sub(1);
        }
        self.records
            .retain(|record| record.waiting > 0 || record.failures > 0);
    }

    /// Counts a wrong password; the answer is to be held back for what is returned.
    pub fn failed(&mut self, source: Source, now: Instant) -> Duration {
        let Some(record) = self.record(source) else {
            return FIRST_DELAY;
        };
        record.last = now;
        let doublings = record.failures.min(16);
        record.failures = record.failures.saturating_add(1);
        let delay = FIRST_DELAY
            .saturating_mul(1 << doublings)
            .min(LONGEST_DELAY);
        let free_at = record.free_at.max(now).checked_add(delay);
        record.free_at = free_at.unwrap_or(now);
        delay
    }

    /// Forgets the failures of a source that has shown the right password.
    pub fn succeeded(&mut self, source: Source) {
        if let Some(record) = self.record(source) {
            record.failures = 0;
            record.free_at = record.last;
        }
    }

    fn record(&mut self, source: Source) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .find(|record| record.source == source)
    }

    fn make_room(&mut self) -> bool {
        let oldest = self
            .records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.waiting == 0)
            .min_by_key(|(_, record)| record.last)
            .map(|(index, _)| index);
        oldest
            .map(|index| self.records.swap_remove(index))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
        Instant::now()
    }

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn guess(throttle: &mut Throttle, who: Source, now: Instant) -> u128 {
        let wait = throttle.enter(who, now).unwrap();
        let delay = throttle.failed(who, now + wait);
        throttle.leave(who);
        delay.as_millis()
    }

    /// Guesses one after another, each after the answer to the one before.
    fn guesses<const N: usize>(
        throttle: &mut Throttle,
        who: Source,
        mut now: Instant,
    ) -> [u128; N] {
        [(); N].map(|()| {
            let delay = guess(throttle, who, now);
            now += Duration::from_millis(delay.try_into().unwrap());
            delay
        })
    }

    #[test]
    fn delays_double_and_end_at_two_seconds() {
        let (mut throttle, now, who) = (Throttle::default(), start(), source("192.0.2.1"));
        let delays = guesses(&mut throttle, who, now);
        assert_eq!(delays, [200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(guess(&mut throttle, source("192.0.2.2"), now), 200);
    }

    #[test]
    fn guesses_side_by_side_are_not_more() {
        let (mut throttle, now, who) = (Throttle::default(), start(), source("192.0.2.1"));
        for _ in 0..MAX_WAITING {
            assert_eq!(throttle.enter(who, now), Some(Duration::ZERO));
        }
        for _ in 0..MAX_WAITING {
            assert!(throttle.failed(who, now) <= LONGEST_DELAY);
            throttle.leave(who);
        }
        let wait = throttle.enter(who, now).unwrap();
        assert_eq!(wait.as_millis(), 200 + 400 + 800 + 1600 + 4 * 2000);
    }

    #[test]
    fn who_does_not_wait_for_the_answer_waits_before_the_next() {
        let (mut throttle, now, who) = (Throttle::default(), start(), source("192.0.2.1"));
        for seconds in [0, 1, 2, 3] {
            // Given up at once.
            guess(&mut throttle, who, now + Duration::from_secs(seconds));
        }
        let wait = throttle.enter(who, now + Duration::from_secs(4)).unwrap();
        assert!(wait >= Duration::from_millis(600), "{wait:?}");
        throttle.succeeded(who);
        throttle.leave(who);
        assert_eq!(throttle.enter(who, now), Some(Duration::ZERO));
    }

    #[test]
    fn success_and_ten_quiet_minutes_are_a_new_start() {
        let (mut throttle, now, who) = (Throttle::default(), start(), source("192.0.2.1"));
        guess(&mut throttle, who, now);
        assert!(throttle.enter(who, now).is_some());
        throttle.succeeded(who);
        throttle.leave(who);
        assert!(throttle.records.is_empty());
        guess(&mut throttle, who, now);
        let before = now + FORGET_AFTER - Duration::from_millis(1);
        assert_eq!(guess(&mut throttle, who, before), 400);
        assert_eq!(guess(&mut throttle, who, before + FORGET_AFTER), 200);
    }

    #[test]
    fn one_source_may_not_queue_without_end() {
        let (mut throttle, now, who) = (Throttle::default(), start(), source("192.0.2.1"));
        for _ in 0..MAX_WAITING {
            assert!(throttle.enter(who, now).is_some());
        }
        assert_eq!(throttle.enter(who, now), None);
        assert!(throttle.enter(source("192.0.2.2"), now).is_some());
        throttle.leave(who);
        assert!(throttle.enter(who, now).is_some());
    }

    #[test]
    fn an_ipv6_host_cannot_hide_among_its_addresses() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_makes_room() {
        let (mut throttle, now) = (Throttle::default(), start());
        let nth = |n: u32| Source::from(IpAddr::from(n.to_be_bytes()));
        for n in 0..1000 {
            guess(&mut throttle, nth(n), now + Duration::from_millis(n.into()));
        }
        assert_eq!(throttle.records.len(), MAX_SOURCES);
        assert!(throttle.record(nth(999)).is_some());
        assert!(throttle.record(nth(0)).is_none());
    }
}
