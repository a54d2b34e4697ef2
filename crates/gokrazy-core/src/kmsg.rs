//! Lines for the kernel's log, which every console shows; for the time before a log keeper runs.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// How grave a line is (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something does not work.
    Error,
    /// Something is not as it should be, and boot goes on.
    Warning,
    /// A step was taken.
    Info,
}

impl Priority {
    fn number(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
        }
    }
}

/// The longest line that the kernel takes, less what it adds itself (`LOG_LINE_MAX` of `printk.c`).
const LINE_MAX: usize = 960;

/// Writes one line to the kernel's log at `path` ([`crate::paths::KMSG`]), or to standard error where there is none.
///
/// Never fails: who boots a machine has nobody left to tell.
pub fn say(path: &Path, priority: Priority, text: fmt::Arguments<'_>) {
    let line = line(priority, &text.to_string());
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut kmsg| kmsg.write_all(line.as_bytes()));
    if written.is_err() {
        // Not by `eprint!`, which panics where standard error is gone too.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// One write is one record, so a line break inside would be lost on some consoles; it becomes a blank.
fn line(priority: Priority, text: &str) -> String {
    let flat: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let end = flat
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at <= LINE_MAX)
        .last()
        .unwrap_or(0);
    let kept = if flat.len() > LINE_MAX {
        flat.get(..end).unwrap_or_default()
    } else {
        &flat
    };
    format!("<{}>gokrazy: {kept}\n", priority.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_its_priority_and_no_line_break() {
        assert_eq!(line(Priority::Warning, "a\nb"), "<4>gokrazy: a b\n");
        assert_eq!(line(Priority::Info, ""), "<6>gokrazy: \n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let cut = line(Priority::Error, &"ä".repeat(1000));
        assert!(cut.len() <= LINE_MAX + 14 && cut.ends_with("ä\n"));
    }
}
