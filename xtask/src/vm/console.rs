//! A guest's serial console: kept line by line, written to a file, and waited upon.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock::Stopwatch;
use crate::out;

/// Lines of a boot, for whoever waits for one.
#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    closed: bool,
    unheard: bool,
}

/// The console of one run of the guest, from power on to power off.
pub(crate) struct Console {
    shared: Arc<(Mutex<Kept>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

/// Whether the user sees the console too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// On our standard output.
    Shown,
    /// Only in the file.
    Hidden,
}

impl Console {
    /// Keeps what comes from `output`, and appends it to the file at `log`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn follow(
        output: impl Read + Send + 'static,
        log: &Path,
        echo: Echo,
    ) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let shared = Arc::new((Mutex::default(), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let reader = thread::spawn(move || keep(output, file, echo, &theirs));
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    /// Waits until a line holds `words`, and returns that line.
    ///
    /// # Errors
    /// The console was closed before, or `limit` passed; the message has the last lines.
    pub(crate) fn wait_for(&self, words: &str, limit: Duration) -> Result<String> {
        let watch = Stopwatch::start();
        let (_, arrived) = &*self.shared;
        let mut kept = self.lock();
        loop {
            if let Some(line) = kept.lines.iter().find(|line| line.contains(words)) {
                return Ok(line.clone());
            }
            let left = limit.saturating_sub(watch.elapsed());
            if kept.closed || left.is_zero() {
                let why = if kept.closed {
                    "the console ended"
                } else {
                    "time is up"
                };
                bail!(
                    "wait for `{words}` on the console: {why}; it ends with\n{}",
                    tail(&kept.lines)
                );
            }
            kept = arrived
                .wait_timeout(kept, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether a line so far contains `words`.
    pub(crate) fn has(&self, words: &str) -> bool {
        self.lock().lines.iter().any(|line| line.contains(words))
    }

    /// Whether it was to be shown, and nobody reads our standard output any more.
    pub(crate) fn is_unheard(&self) -> bool {
        self.lock().unheard
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits until the guest's end has closed the console; all lines are there then.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has already said so on our standard error.
            let _ = reader.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(output: impl Read, mut file: File, echo: Echo, shared: &(Mutex<Kept>, Condvar)) {
    let (kept, arrived) = shared;
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let text = clean(&line);
        let unheard = echo == Echo::Shown && out::try_line(format_args!("{text}")).is_err();
        // A full disk must not stop the guest: the lines are kept in memory too.
        let _ = writeln!(file, "{text}");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.push(text);
        kept.unheard |= unheard;
        drop(kept);
        arrived.notify_all();
    }
    kept.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    arrived.notify_all();
}

/// Text without what would steer a terminal: firmware paints in colours, and a guest is not trusted with ours.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\t' => cleaned.push(' '),
            _ if character.is_control() => {}
            _ => cleaned.push(character),
        }
    }
    cleaned
}

/// Leaves out the rest of an escape sequence: `[`, parameters, and one letter.
fn skip_sequence(characters: &mut std::str::Chars<'_>) {
    if characters.next() == Some('[') {
        characters.find(|character| character.is_ascii_alphabetic());
    }
}

fn tail(lines: &[String]) -> String {
    let from = lines.len().saturating_sub(25);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// The kernel's time stamp at the head of a line, `[    1.234567]`.
pub(crate) fn stamp(line: &str) -> Option<Duration> {
    let seconds = line
        .trim_start()
        .strip_prefix('[')?
        .split(']')
        .next()?
        .trim();
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_freed_from_what_steers_a_terminal() {
        assert_eq!(clean(b"\x1b[2J\x1b[01;01HBdsDxe: x\r"), "BdsDxe: x");
        assert_eq!(clean(b"a\tb\xff"), "a b\u{fffd}");
    }

    #[test]
    fn stamps_are_read() {
        assert_eq!(
            stamp("[    1.250000] init: up"),
            Some(Duration::from_millis(1250))
        );
        assert_eq!(stamp("[x] y"), None);
        assert_eq!(stamp("hello"), None);
    }
}
