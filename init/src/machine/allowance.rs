//! How many lines the console gets of what others can make happen again and again; pure.

use std::time::Duration;

use crate::supervise::Moment;

/// Lines that may follow each other at once.
const AT_ONCE: u32 = 5;

/// Time after which there may be one more.
pub(super) const ONE_MORE: Duration = Duration::from_secs(600);

/// Lines that are left.
#[derive(Debug)]
pub struct Allowance {
    left: u32,
    since: Moment,
}

impl Allowance {
    /// All of them.
    pub fn new() -> Self {
        Self {
            left: AT_ONCE,
            since: Moment::ZERO,
        }
    }

    /// Takes one, if there is one left.
    pub fn take(&mut self, now: Moment) -> bool {
        let more = now.saturating_sub(self.since).as_secs() / ONE_MORE.as_secs();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.since = now;
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new()
    }
}
