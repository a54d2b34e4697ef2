//! How long a socket is left alone once what arrives on it is of no use; pure.
//!
//! A socket filter cannot tell a forged reply with the right transaction id from a server's.
//! Who floods us with such replies would wake us for each; so after a burst of useless ones the socket is left alone
//! for moments, and what has gathered there is looked at in one go.
//! Nothing is thrown away: the kernel keeps it meanwhile, and a server's answer is late by one such moment at most.

use std::time::Duration;

use crate::moment::Moment;

/// Useless packets that are put up with at once, and again each second.
const BURST: u64 = 32;
/// How long the socket is left alone then.
const PAUSE: Duration = Duration::from_millis(100);

/// The patience with one socket: a bucket of tokens, one for each useless packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Thousandths of tokens that are left.
    left: u64,
    counted_at: Moment,
    until: Option<Moment>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            left: BURST.saturating_mul(1000),
            counted_at: Moment::from_millis(0),
            until: None,
        }
    }
}

impl Patience {
    /// Takes note of packets that were of no use.
    pub fn try_with(&mut self, useless: u64, now: Moment) {
        let elapsed = now.since(self.counted_at).as_millis();
        let gained = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(BURST);
        let most = BURST.saturating_mul(1000);
        self.counted_at = now;
        let before = self.left.saturating_add(gained).min(most);
        self.left = before.saturating_sub(useless.saturating_mul(1000));
        if useless > 0 && self.left < 1000 {
            self.until = Some(now.after(PAUSE));
        }
    }

    /// Until when the socket is left alone, if it is.
    pub fn pause(&self) -> Option<Moment> {
        self.until
    }

    /// Whether the socket is to be left alone now.
    pub fn is_exhausted(&mut self, now: Moment) -> bool {
        self.until = self.until.filter(|until| *until > now);
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_millis(milliseconds)
    }

    #[test]
    fn a_few_useless_packets_a_second_change_nothing() {
        let mut patience = Patience::default();
        for second in 0..100 {
            for packet in 0..30 {
                let now = at(1000 * second + packet);
                patience.try_with(1, now);
                assert!(!patience.is_exhausted(now), "second {second}");
            }
        }
        assert_eq!(patience.pause(), None);
    }

    #[test]
    fn a_flood_is_looked_at_ten_times_a_second() {
        let mut patience = Patience::default();
        let (mut looks, mut waiting) = (0, 0);
        // Two thousand a second, ten seconds long.
        for millisecond in 0..10_000 {
            waiting += 2;
            let now = at(millisecond);
            if !patience.is_exhausted(now) {
                patience.try_with(waiting, now);
                (looks, waiting) = (looks + 1, 0);
            }
        }
        // The first sixteen come as they arrive.
        assert!((100..=120).contains(&looks), "{looks}");
        assert!(waiting <= 200, "{waiting}");
    }

    #[test]
    fn patience_comes_back_when_the_flood_is_exhausted() {
        let mut patience = Patience::default();
        patience.try_with(1000, at(5));
        assert_eq!(patience.pause(), Some(at(105)));
        assert!(patience.is_exhausted(at(104)) && !patience.is_exhausted(at(105)));
        patience.try_with(0, at(105));
        assert_eq!(patience.pause(), None);
        patience.try_with(30, at(1105));
        assert_eq!(patience.pause(), None);
        patience.try_with(3, at(1106));
        assert_eq!(patience.pause(), Some(at(1206)));
    }
}
