//! One line to the operator.
//!
//! No tests of its own: one call.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error; whoever reads it may be gone, which is no reason to end (as `eprintln!` would).
pub fn log(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
