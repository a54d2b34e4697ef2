//! An exchange of DHCPv6 messages and its retransmissions (RFC 8415 §15); pure.

use std::time::Duration;

use crate::moment::{Chance, Moment};

/// First and longest wait of an exchange (`IRT` and `MRT` of RFC 8415 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Pace {
    /// `REQ_TIMEOUT`, `REQ_MAX_RT`.
    pub(super) const REQUEST: Self = Self::seconds(1, 30);
    /// `CNF_TIMEOUT`, `CNF_MAX_RT`.
    pub(super) const CONFIRM: Self = Self::seconds(1, 4);
    /// `REN_TIMEOUT`, `REN_MAX_RT`; those of Rebind are the same.
    pub(super) const RENEW: Self = Self::seconds(10, 600);
    /// `DEC_TIMEOUT`; four messages long, it needs no longest wait.
    pub(super) const DECLINE: Self = Self::seconds(1, 30);

    /// `SOL_TIMEOUT` or `INF_TIMEOUT`, and a longest wait that servers have a say in.
    pub(super) fn up_to(most: Duration) -> Self {
        Self {
            most,
            ..Self::seconds(1, 0)
        }
    }

    const fn seconds(first: u64, most: u64) -> Self {
        Self {
            first: Duration::from_secs(first),
            most: Duration::from_secs(most),
        }
    }
}

/// An exchange and its retransmissions (RFC 8415 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) xid: [u8; 3],
    began: Moment,
    pub(super) sent: u32,
    wait: Duration,
    pub(super) most: Duration,
    pub(super) next: Moment,
}

impl Exchange {
    pub(super) fn new(pace: Pace, now: Moment, chance: &mut dyn Chance) -> Self {
        let [_, a, b, c] = chance.draw().to_be_bytes();
        Self {
            xid: [a, b, c],
            began: now,
            sent: 0,
            wait: pace.first,
            most: pace.most,
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
        let least = self.wait.saturating_sub(self.wait / 10);
        self.next = now.after(least.saturating_add(spread));
    }

    /// The same for the first solicitation: strictly later than the first wait, in which offers are collected
    /// (RFC 8415 §18.2.1).
    pub(super) fn send_and_collect(&mut self, now: Moment, chance: &mut dyn Chance) {
        self.sent = 1;
        let spread = chance.up_to(self.wait / 10).max(Duration::from_millis(1));
        self.next = now.after(self.wait.saturating_add(spread));
    }

    pub(super) fn elapsed(&self, now: Moment) -> u16 {
        u16::try_from(now.since(self.began).as_millis() / 10).unwrap_or(u16::MAX)
    }
}
