//! One exchange of messages: its transaction id and its retransmissions (RFC 2131 §4.1, §4.4.5); pure.

use std::time::Duration;

use crate::moment::{Chance, Moment};

/// First retransmission; each later one waits twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(4);
/// The wait stops to grow after so many doublings, at 64 s.
const DOUBLINGS: u32 = 4;
/// Least time between retransmissions while a lease is renewed.
const RENEW_FLOOR: Duration = Duration::from_secs(60);

/// An exchange in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Transaction id, the same for all retransmissions, so that a late reply still counts.
    pub xid: u32,
    /// When the attempt began.
    began: Moment,
    /// When the message was last sent.
    pub sent_at: Moment,
    /// How often it was sent.
    pub sent: u32,
    /// When it is to be sent again, or the exchange given up.
    pub next: Moment,
}

impl Exchange {
    /// An exchange that begins now, its message not sent yet.
    pub fn new(now: Moment, chance: &mut dyn Chance) -> Self {
        Self {
            xid: chance.draw(),
            began: now,
            sent_at: now,
            sent: 0,
            next: now,
        }
    }

    /// Seconds since the attempt began, as of the last time that its first message was sent.
    ///
    /// A request repeats the value of the discover that it follows (RFC 2131 §4.4.1).
    pub fn secs(&self) -> u16 {
        let elapsed = self.sent_at.since(self.began).as_secs();
        u16::try_from(elapsed).unwrap_or(u16::MAX)
    }

    /// Notes that the message is sent now, and plans the next time: 4, 8, 16, 32, 64, 64, … seconds, each ±1 s.
    pub fn send(&mut self, now: Moment, chance: &mut dyn Chance) {
        let growth = 1_u32.checked_shl(self.sent.min(DOUBLINGS)).unwrap_or(1);
        let base = FIRST_RETRY
            .saturating_mul(growth)
            .saturating_sub(Duration::from_secs(1));
        self.note(now);
        self.next = now.after(base.saturating_add(chance.up_to(Duration::from_secs(2))));
    }

    /// Notes that a renewal is sent now; it is repeated after half of what is left until `end`, but not within a
    /// minute, and not if that is later than `end`.
    ///
    /// Of a lease without an end, which is renewed only because someone asked for it, it is repeated each minute.
    pub fn send_until(&mut self, now: Moment, end: Option<Moment>) {
        self.note(now);
        self.next = match end {
            Some(end) => now.after((end.since(now) / 2).max(RENEW_FLOOR)).min(end),
            None => now.after(RENEW_FLOOR),
        };
    }

    /// The exchange goes on with another message under the same id: the request after an offer.
    pub fn go_on(self) -> Continued {
        Continued {
            secs: self.secs(),
            exchange: Self { sent: 0, ..self },
        }
    }

    fn note(&mut self, now: Moment) {
        self.sent_at = now;
        self.sent = self.sent.saturating_add(1);
    }
}

/// An exchange that follows a discover, whose `secs` it repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continued {
    /// The field's value in every message.
    pub secs: u16,
    /// The exchange.
    pub exchange: Exchange,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Fixed;

    #[track_caller]
    fn check(draw: u32, want: [u64; 7]) {
        let mut chance = Fixed(draw);
        let mut exchange = Exchange::new(Moment::from_secs(10), &mut chance);
        let mut gaps = Vec::new();
        for _ in want {
            let now = exchange.next;
            exchange.send(now, &mut chance);
            gaps.push(exchange.next.since(now).as_millis() as u64);
        }
        assert_eq!(gaps, want);
    }

    #[test]
    fn waits_double_from_4_to_64_seconds_give_or_take_one() {
        check(1000, [4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]);
        check(0, [3000, 7000, 15_000, 31_000, 63_000, 63_000, 63_000]);
        check(2000, [5000, 9000, 17_000, 33_000, 65_000, 65_000, 65_000]);
    }

    #[test]
    fn secs_counts_from_the_first_message_and_stays_for_the_request() {
        let mut chance = Fixed(1000);
        let mut exchange = Exchange::new(Moment::from_secs(10), &mut chance);
        exchange.send(Moment::from_secs(10), &mut chance);
        assert_eq!(exchange.secs(), 0);
        exchange.send(Moment::from_secs(14), &mut chance);
        assert_eq!(exchange.secs(), 4);
        assert_eq!(exchange.go_on().secs, 4);
        exchange.send(Moment::from_secs(900_000), &mut chance);
        assert_eq!(exchange.secs(), u16::MAX);
    }

    #[test]
    fn renewals_halve_the_rest_but_keep_a_minute() {
        let mut exchange = Exchange::new(Moment::from_secs(0), &mut Fixed(1));
        let mut at = |now, end| {
            exchange.send_until(Moment::from_secs(now), Some(Moment::from_secs(end)));
            exchange.next.as_secs()
        };
        assert_eq!(at(1000, 2000), 1500);
        assert_eq!(at(1900, 2000), 1960);
        assert_eq!(at(1960, 2000), 2000);
    }
}
