//! How long to wait before a restart: longer with each failure in a row; pure.

use std::time::Duration;

use super::ending::Ending;

/// How long a service must have run to count as healthy again.
const HEALTHY: Duration = Duration::from_secs(60);

/// What a pause of nothing grows from: one that fails at once must not keep a processor busy.
const SHORTEST: Duration = Duration::from_millis(10);

/// So many failures in a row are a crash loop.
const CRASH_LOOP: u32 = 5;

/// Failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures(u32);

impl Failures {
    /// How many.
    pub fn in_a_row(self) -> u32 {
        self.0
    }

    /// Whether they are a crash loop.
    pub fn are_a_loop(self) -> bool {
        self.0 >= CRASH_LOOP
    }

    /// Takes in how a run ended and how long it took, and returns the pause before the next: `delay`, doubled with
    /// each failure in a row, at most `longest`.
    pub fn pause(
        &mut self,
        ending: &Ending,
        ran: Duration,
        delay: Duration,
        longest: Duration,
    ) -> Duration {
        if !ending.is_failure() || ran >= HEALTHY {
            self.0 = 0;
        }
        // One that ends at once, however well, must not keep a processor busy either.
        let is_hasty = !ending.is_failure() && delay.is_zero() && ran < SHORTEST;
        if is_hasty {
            return SHORTEST.min(longest);
        }
        let doublings = self.0.min(31);
        if ending.is_failure() {
            self.0 = self.0.saturating_add(1);
        }
        let pause = match doublings.checked_sub(1) {
            Some(further) if delay.is_zero() => SHORTEST.saturating_mul(1 << further),
            _ => delay.saturating_mul(1 << doublings),
        };
        pause.min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_minute_of_health() {
        let mut failures = Failures::default();
        let second = Duration::from_secs(1);
        let mut pause = |ran| {
            failures
                .pause(&Ending::Exit(1), ran, second, 60 * second)
                .as_secs()
        };
        let got: Vec<u64> = (0..9)
            .map(|_| pause(Duration::from_millis(59_999)))
            .collect();
        assert_eq!(got, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(Duration::from_secs(60)), 1);
        assert_eq!(pause(Duration::ZERO), 2);
    }

    #[test]
    fn no_pause_grows_too_unless_that_is_forbidden() {
        let pauses = |longest: Duration| {
            let mut failures = Failures::default();
            let mut pause = || {
                let ran = Duration::ZERO;
                failures
                    .pause(&Ending::Exit(1), ran, Duration::ZERO, longest)
                    .as_millis()
            };
            [pause(), pause(), pause(), pause()]
        };
        assert_eq!(pauses(Duration::from_secs(60)), [0, 10, 20, 40]);
        assert_eq!(pauses(Duration::from_millis(15)), [0, 10, 15, 15]);
        assert_eq!(pauses(Duration::ZERO), [0; 4]);
    }

    #[test]
    fn success_at_once_has_a_pause_too() {
        let pause = |ran, longest| {
            let mut failures = Failures::default();
            failures.pause(&Ending::Exit(0), ran, Duration::ZERO, longest)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(pause(Duration::from_millis(9), minute), SHORTEST);
        assert_eq!(pause(SHORTEST, minute), Duration::ZERO);
        assert_eq!(pause(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn five_failures_in_a_row_are_a_loop_and_a_success_ends_it() {
        let mut failures = Failures::default();
        let mut run = |status| {
            failures.pause(
                &Ending::Exit(status),
                Duration::ZERO,
                Duration::ZERO,
                Duration::ZERO,
            );
            failures.are_a_loop()
        };
        assert_eq!(
            [1, 1, 1, 1, 1, 1].map(&mut run),
            [false, false, false, false, true, true]
        );
        assert!(!run(0));
    }
}
