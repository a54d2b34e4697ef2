//! How often is made public what a stranger on the link can change at will; pure.
//!
//! Anyone on a link can send router advertisements, and each can name other servers.
//! To write files and run the hook for each would keep the machine busy; so after a burst of changes the next is told
//! with all that follow it within a second.

use std::time::Duration;

use crate::moment::Moment;

/// Changes that are told at once: what a few routers say when they are first heard.
const BURST: u32 = 8;
/// How long until one more is.
const PACE: Duration = Duration::from_secs(1);

/// The pace of one interface's changes: a bucket of tokens, one for each that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    left: u32,
    counted_at: Moment,
    due: Option<Moment>,
}

impl Pace {
    /// Starts with a burst.
    pub fn new(now: Moment) -> Self {
        Self {
            left: BURST,
            counted_at: now,
            due: None,
        }
    }

    /// Something has changed: whether to tell of it now; else it is due later, with what changes until then.
    pub fn admits(&mut self, now: Moment) -> bool {
        while self.left < BURST && self.counted_at.after(PACE) <= now {
            self.counted_at = self.counted_at.after(PACE);
            self.left = self.left.saturating_add(1);
        }
        if self.left == BURST {
            self.counted_at = now;
        }
        if self.left == 0 {
            self.due = Some(self.counted_at.after(PACE));
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.due = None;
        true
    }

    /// When changes are to be told that were not yet, if there are any.
    pub fn deadline(&self) -> Option<Moment> {
        self.due
    }

    /// Whether changes wait, and may be told now.
    pub fn is_due(&mut self, now: Moment) -> bool {
        self.due.is_some_and(|due| due <= now) && self.admits(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_millis(milliseconds)
    }

    #[test]
    fn a_flood_is_told_once_a_second_and_its_end_too() {
        let mut pace = Pace::new(at(0));
        let mut told = 0;
        for millisecond in 0..10_000 {
            let now = at(millisecond);
            let is_due = pace.is_due(now);
            told += u32::from(is_due || pace.admits(now));
        }
        assert!((8..=18).contains(&told), "{told}");
        let due = pace.deadline().unwrap();
        assert!(due <= at(11_000), "{due:?}");
        assert!(pace.is_due(due) && pace.deadline().is_none());
    }

    #[test]
    fn what_changes_now_and_then_is_told_at_once() {
        let mut pace = Pace::new(at(0));
        for second in 0..100 {
            assert!(pace.admits(at(1000 * second + 1)), "second {second}");
        }
        for change in 0..7 {
            assert!(pace.admits(at(200_000 + change)), "change {change}");
        }
        assert_eq!(pace.deadline(), None);
    }
}
