//! How a run of a service ended; pure.

use std::fmt;
use std::time::Duration;

use gokrazy_core::exit;

use crate::service::signals;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The process ended with this exit status.
    Exit(i32),
    /// A signal ended the process.
    Signal(i32),
    /// The kernel ended it for want of memory.
    OutOfMemory,
    /// It could not be started; the text says what was tried and why it failed.
    StartFailed(String),
    /// It ended with exit status 0 before it said that it is ready.
    Unready,
    /// It was not ready in time.
    StartTimeout(Duration),
    /// It was silent for longer than its watchdog allows.
    Watchdog(Duration),
}

impl Ending {
    /// Whether a restart policy counts it as a failure.
    pub fn is_failure(&self) -> bool {
        *self != Self::Exit(0)
    }

    /// What it means where the process had not become its program yet.
    #[must_use]
    pub fn before_program(self) -> Self {
        Self::StartFailed(format!("{self} before its program ran"))
    }

    /// Whether the service asked not to be supervised.
    pub fn asks_for_peace(&self) -> bool {
        *self == Self::Exit(i32::from(exit::DO_NOT_SUPERVISE))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal} ({})", signals::name(*signal)),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::StartFailed(why) => write!(f, "start failed: {why}"),
            Self::Unready => f.write_str("exit status 0 before it was ready"),
            Self::StartTimeout(limit) => write!(f, "not ready within {limit:?}"),
            Self::Watchdog(limit) => write!(f, "watchdog: silent for {limit:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        for (ending, want) in [
            (Ending::Exit(1), "exit status 1"),
            (Ending::Signal(9), "signal 9 (KILL)"),
            (Ending::OutOfMemory, "out of memory"),
            (
                Ending::OutOfMemory.before_program(),
                "start failed: out of memory before its program ran",
            ),
            (
                Ending::Watchdog(Duration::from_secs(30)),
                "watchdog: silent for 30s",
            ),
        ] {
            assert_eq!(ending.to_string(), want);
        }
    }

    #[test]
    fn only_zero_is_success_and_only_125_asks_for_peace() {
        assert!(!Ending::Exit(0).is_failure());
        assert!(Ending::Exit(125).is_failure() && Ending::Exit(125).asks_for_peace());
        assert!(Ending::Signal(125).is_failure() && !Ending::Signal(125).asks_for_peace());
    }
}
