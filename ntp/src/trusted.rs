//! Our clock as the kernel says that it is.
//!
//! Some sandboxes let a program set the clock, say that it is done, and do nothing.
//! Who measures on such a clock sees the same error for ever and sets it again and again.
//! So what was granted is counted as done, from there on, and the operator is told.
//! Reading and setting are [`crate::clocks`]'.

use std::io;

use crate::action::Moment;
use crate::clocks;
use crate::wall::Wall;

/// A clock that shows less than so much of a step that was granted, in nanoseconds, has not taken it.
const LOST: u64 = 100_000_000;

/// The two clocks may part by so much, and by 500 ppm of the time between, before someone has moved one; in ns.
const JUMP: u64 = 250_000_000;

/// The clock, with all steps in it that the kernel granted.
#[derive(Debug, Default)]
pub struct TrustedClock {
    /// What the kernel granted and did not do, in nanoseconds.
    owed: i64,
}

impl TrustedClock {
    /// Both clocks now.
    pub fn moment(&self) -> Moment {
        let moment = clocks::moment();
        Moment {
            wall: self.true_wall(moment.wall),
            ..moment
        }
    }

    /// Civil time now.
    pub fn wall(&self) -> Wall {
        self.true_wall(clocks::wall())
    }

    /// What the kernel owes, in nanoseconds; zero wherever a clock is a clock.
    pub fn owed(&self) -> i64 {
        self.owed
    }

    /// Moves the clock by `offset` nanoseconds; true if the kernel said so, and did not.
    ///
    /// # Errors
    /// The errno; `EPERM` without `CAP_SYS_TIME`.
    pub fn step(&mut self, offset: i64) -> io::Result<bool> {
        let before = self.moment();
        clocks::set(self.wall().shifted(offset))?;
        self.owed = missing(before, offset, clocks::moment());
        Ok(self.owed != 0)
    }

    fn true_wall(&self, wall: Wall) -> Wall {
        wall.shifted(self.owed)
    }
}

/// How far someone moved the clock between two moments, in nanoseconds, if it was more than what clocks part by themselves.
pub fn jump(last: Moment, moment: Moment) -> Option<i64> {
    let passed = moment.now.saturating_sub(last.now).as_nanos();
    let passed = i64::try_from(passed).unwrap_or(i64::MAX);
    let jump = moment.wall.since(last.wall.shifted(passed));
    (jump.unsigned_abs() >= JUMP + passed.unsigned_abs() / 2_000).then_some(jump)
}

/// How much of a step by `offset` from `before` is not to be seen in `after`.
fn missing(before: Moment, offset: i64, after: Moment) -> i64 {
    let passed = after.now.saturating_sub(before.now);
    let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
    let missing = before
        .wall
        .shifted(offset)
        .shifted(passed)
        .since(after.wall);
    if missing.unsigned_abs() > LOST {
        missing
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wall::{Mono, SECOND};

    #[track_caller]
    fn check(offset: i64, moved: i64, want: i64) {
        let at = |now, nanoseconds| Moment {
            now: Mono::from_millis(now),
            wall: Wall::from_seconds(1_800_000_000).shifted(nanoseconds),
        };
        let after = at(1_250, 250_000_000 + moved);
        assert_eq!(missing(at(1_000, 0), offset, after), want);
    }

    #[test]
    fn a_step_that_was_done_leaves_nothing() {
        check(100 * SECOND, 100 * SECOND, 0);
        check(-9 * SECOND, -9 * SECOND + 1_000_000, 0);
    }

    #[test]
    fn a_step_that_was_only_granted_is_owed() {
        check(100 * SECOND, 0, 100 * SECOND);
        check(-9 * SECOND, 0, -9 * SECOND);
        check(128_000_000, 0, 128_000_000);
    }

    #[test]
    fn a_clock_that_someone_moved_has_jumped() {
        let at = |milliseconds, moved: i64| Moment {
            now: Mono::from_millis(milliseconds),
            wall: Wall::from_seconds(1_800_000_000)
                .shifted(milliseconds.cast_signed() * 1_000_000 + moved),
        };
        assert_eq!(jump(at(0, 0), at(5_000, 200_000_000)), None);
        assert_eq!(jump(at(0, 0), at(5_000, -9 * SECOND)), Some(-9 * SECOND));
        // 500 ppm of an hour are no jump.
        assert_eq!(jump(at(0, 0), at(3_600_000, 2 * SECOND)), None);
    }
}
