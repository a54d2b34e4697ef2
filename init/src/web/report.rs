//! One line to the operator.
//!
//! No tests of its own: one call.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error; whoever reads it may be gone, or its disk full, which is no reason to end (as
/// `eprintln!` would).
pub fn report(line: impl Display) {
    // One write a line, so that lines of several programs on one terminal do not mix.
    let _ = io::stderr().write_all(format!("web: {line}\n").as_bytes());
}
