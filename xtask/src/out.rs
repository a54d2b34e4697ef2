//! Standard output, and what happens when nobody reads it any more (`cargo xtask setup | head`).
//!
//! `println!` would panic; the signal that ends other programs then would leave behind what destructors clean up:
//! guests, namespaces, a file of ours in the system.
//! So a line that cannot be written unwinds to [`catching`], quietly.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::Result;

/// Writes one line, as `println!` does.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::out::line(format_args!($($argument)*))
    };
}

pub(crate) use say;

/// Standard output has no reader: an error that is told to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write standard output: nobody reads it")
    }
}

impl std::error::Error for Unread {}

/// Writes `text` and a line's end; does not return if that fails.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    if let Err(error) = try_line(text) {
        // Does not pass the panic hook: nothing is printed.
        resume_unwind(Box::new(error));
    }
}

/// Writes `text` and a line's end.
///
/// # Errors
/// What standard output said.
pub(crate) fn try_line(text: fmt::Arguments<'_>) -> io::Result<()> {
    // One call, so that lines of two threads do not mix.
    io::stdout().lock().write_fmt(format_args!("{text}\n"))
}

/// Runs `work`, and turns a line that could not be written into an error.
///
/// # Errors
/// [`Unread`] if nobody reads standard output; else those of `work` and of standard output.
pub(crate) fn catching(work: impl FnOnce() -> Result<()>) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<io::Error>() {
            Ok(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
            Ok(error) => Err(anyhow::Error::from(*error).context("write standard output")),
            Err(payload) => resume_unwind(payload),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_reader_is_told_to_nobody() {
        let ends_with = |kind: ErrorKind| {
            catching(|| resume_unwind(Box::new(io::Error::from(kind)))).unwrap_err()
        };
        assert!(ends_with(ErrorKind::BrokenPipe).is::<Unread>());
        let full = ends_with(ErrorKind::StorageFull);
        assert!(!full.is::<Unread>());
        assert_eq!(full.to_string(), "write standard output");
        assert_eq!(
            catching(|| anyhow::bail!("other")).unwrap_err().to_string(),
            "other"
        );
    }
}
