//! One line to standard error per state change.

use std::fmt::Display;
use std::io::Write;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// State changes.
    Events,
    /// Each message too.
    Messages,
}

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// How much is said.
    pub verbosity: Verbosity,
}

impl Log {
    /// Says that something changed.
    pub fn event(self, who: &str, what: impl Display) {
        // One write, so that lines of several writers do not mix; a closed standard error is no reason to stop.
        let _ = std::io::stderr().write_all(format!("{who}: {what}\n").as_bytes());
    }

    /// Says what is of interest to who looks for a fault, and what strangers can repeat at will.
    pub fn detail(self, who: &str, what: impl Display) {
        if self.verbosity == Verbosity::Messages {
            self.event(who, what);
        }
    }
}
