//! An exchange of DHCPv6 messages and its retransmissions (RFC 8415 §15); pure.

use std::time::Duration;

use crate::moment::{Chance, Moment};

/// An exchange and its retransmissions (RFC 8415 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) xid: [u8; 3],
    began: Moment,
    pub(super) sent: u32,
    wait: Duration,
    most: Duration,
    pub(super) next: Moment,
}

impl Exchange {
    pub(super) fn new(first: u64, most: u64, now: Moment, chance: &mut dyn Chance) -> Self {
        let [_, a, b, c] = chance.draw().to_be_bytes();
        Self {
            xid: [a, b, c],
            began: now,
            sent: 0,
            wait: Duration::from_secs(first),
            most: Duration::from_secs(most),
            next: now,
        }
    }

    /// Notes that the message is sent now, and plans the next time: twice the wait, give or take a tenth.
    pub(super) fn send(&mut self, now: Moment, chance: &mut dyn Chance) {
        if self.sent > 0 {
            self.wait = self.wait.saturating_mul(2);
        }
        self.wait = self.wait.min(self.most);
        self.sent = self.sent.saturating_add(1);
        let spread = chance.up_to(self.wait / 5);
        // The first solicitation is not repeated too early: offers are collected meanwhile.
        let least = if self.sent == 1 {
            self.wait
        } else {
            self.wait.saturating_sub(self.wait / 10)
        };
        self.next = now.after(least.saturating_add(spread));
    }

    pub(super) fn elapsed(&self, now: Moment) -> u16 {
        u16::try_from(now.since(self.began).as_millis() / 10).unwrap_or(u16::MAX)
    }
}
