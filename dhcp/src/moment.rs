//! Moments on the boot clock, and chance, as arguments of the pure modules; pure.

use std::time::Duration;

/// A moment on `CLOCK_BOOTTIME`, which counts through suspend and which nobody steps; in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `milliseconds` after boot.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The moment `seconds` after boot.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since boot.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The time from `earlier` to this moment; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A source of chance: the system's in the daemon, a seeded one in tests.
pub trait Chance {
    /// 32 random bits.
    fn draw(&mut self) -> u32;

    /// A duration from zero to `longest`, evenly spread, in milliseconds.
    fn up_to(&mut self, longest: Duration) -> Duration {
        let span = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(u64::from(self.draw()) % span.saturating_add(1))
    }
}

/// Chance that draws the same each time.
#[cfg(test)]
pub(crate) struct Fixed(pub(crate) u32);

#[cfg(test)]
impl Chance for Fixed {
    fn draw(&mut self) -> u32 {
        self.0
    }
}

/// The earlier of two moments that may not exist.
pub fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_reaches_both_ends_and_no_further() {
        let second = Duration::from_secs(1);
        assert_eq!(Fixed(0).up_to(second), Duration::ZERO);
        assert_eq!(Fixed(1000).up_to(second), second);
        assert_eq!(Fixed(1001).up_to(second), Duration::ZERO);
    }

    #[test]
    fn moments_do_not_wrap() {
        let late = Moment::from_millis(u64::MAX);
        assert_eq!(late.after(Duration::from_secs(1)), late);
        assert_eq!(Moment::from_secs(1).since(late), Duration::ZERO);
        assert_eq!(
            earlier(None, Some(Moment::from_secs(2))),
            Some(Moment::from_secs(2))
        );
    }
}
