//! What a build tells while it runs: a line a step, with size and time; a bar where a step knows how far it is.
//!
//! Own code rather than a library for progress bars: two shapes of line need no redrawing threads, and outside a
//! terminal only the finished lines may appear.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::out::say;

/// Characters of a full bar.
const WIDTH: usize = 30;

/// The steps of one build.
#[derive(Debug)]
pub(crate) struct Progress {
    whole: Stopwatch,
    terminal: bool,
}

impl Progress {
    /// Starts to count time.
    pub(crate) fn start() -> Self {
        Self {
            whole: Stopwatch::start(),
            terminal: stdout().is_terminal(),
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.whole.elapsed()
    }

    /// Runs `work`, called `name`, and tells its time and the size that `work` gives along.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn step<T>(
        &self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<(T, u64)>,
    ) -> anyhow::Result<T> {
        let watch = Stopwatch::start();
        self.draw(&format!("  {name} …"));
        let result = work();
        self.draw("");
        let (value, size) = result?;
        say!("  {}", line(name, size, watch.elapsed()));
        Ok(value)
    }

    /// Shows how much of `total` bytes is done; nothing outside a terminal.
    pub(crate) fn bar(&self, name: &str, done: u64, total: u64) {
        self.draw(&format!("  {}", bar(name, done, total)));
    }

    fn draw(&self, text: &str) {
        if self.terminal {
            // Back to the line's start, and clear it (ECMA-48 "EL").
            // A lost frame of a bar is no reason to stop.
            let _ = write!(stdout(), "\r\x1b[K{text}").and_then(|()| stdout().flush());
        }
    }
}

/// `1234567` as `1.2 MiB`.
pub(crate) fn human(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        small if small < 1024.0 => format!("{small} B"),
        medium if medium < 1024.0 * 1024.0 => format!("{:.1} KiB", medium / 1024.0),
        large => format!("{:.1} MiB", large / 1024.0 / 1024.0),
    }
}

fn line(name: &str, size: u64, time: Duration) -> String {
    format!(
        "{name:<34} {:>10} {:>7.1} s",
        human(size),
        time.as_secs_f64()
    )
}

fn bar(name: &str, done: u64, total: u64) -> String {
    let full = (WIDTH as u64 * done)
        .checked_div(total)
        .unwrap_or(0)
        .min(WIDTH as u64) as usize;
    format!(
        "{name:<34} [{}{}] {} of {}",
        "=".repeat(full),
        " ".repeat(WIDTH - full),
        human(done),
        human(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(human(12), "12 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(6 * 1024 * 1024), "6.0 MiB");
    }

    #[test]
    fn a_bar_is_empty_half_or_full() {
        let count = |done| bar("x", done, 60).matches('=').count();
        assert_eq!((count(0), count(30), count(60), count(99)), (0, 15, 30, 30));
        assert!(!bar("x", 1, 0).contains('='));
    }

    #[test]
    fn a_line_has_name_size_and_time() {
        let line = line("root", 1024, Duration::from_millis(1500));
        assert!(line.starts_with("root ") && line.contains("1.0 KiB") && line.ends_with("1.5 s"));
    }
}
