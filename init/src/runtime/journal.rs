//! Init's own lines: to standard error (the console on a device), and to logd by a pipe.
//!
//! Neither may hold PID 1 up: a line that finds no room is dropped and counted, and the next one says so.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gokrazy_core::paths;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{pipe2, write};

/// Longest line; a pipe takes it whole or not at all (`PIPE_BUF`).
const LINE_MAX: usize = 4000;

/// Where init's lines go.
#[derive(Debug)]
pub struct Journal {
    /// Our own way to the terminal or pipe that standard error is, which does not wait where that is full.
    console: Option<File>,
    pipe: Option<(OwnedFd, OwnedFd)>,
    lost: u64,
}

/// How grave a line is, as syslog(3) numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Warning,
    /// Something changed.
    Info,
}

impl Journal {
    /// A journal with a pipe for logd, if one can be made.
    pub fn new() -> Self {
        Self {
            console: reopen_console(),
            pipe: pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok(),
            lost: 0,
        }
    }

    /// The end of the pipe that logd reads.
    pub fn reader(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|(reader, _)| reader.as_fd())
    }

    /// Writes a line about what changed.
    pub fn info(&mut self, line: impl fmt::Display) {
        self.line(Level::Info, &line.to_string());
    }

    /// Writes a line about what does not work.
    pub fn warn(&mut self, line: impl fmt::Display) {
        self.line(Level::Warning, &line.to_string());
    }

    fn line(&mut self, level: Level, text: &str) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.one(
                Level::Warning,
                &format!("{lost} lines of mine found no room"),
            );
        }
        self.one(level, text);
    }

    fn one(&mut self, level: Level, text: &str) {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let priority = match level {
            Level::Warning => 4,
            Level::Info => 6,
        };
        let console = line(&format!("init: {text}"));
        let piped = line(&format!("<{priority}>{text}"));
        let shown = match &self.console {
            Some(file) => put(file.as_fd(), &console),
            None => put_if_room(io::stderr().as_fd(), &console),
        };
        let kept = self
            .pipe
            .as_ref()
            .map(|(_, writer)| put(writer.as_fd(), &piped));
        if !shown && kept != Some(true) {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// The text as a line of at most [`LINE_MAX`] bytes, cut before its end and not with it.
fn line(text: &str) -> Vec<u8> {
    let end = text.floor_char_boundary(LINE_MAX.saturating_sub(1));
    let mut line = text.as_bytes().get(..end).unwrap_or_default().to_vec();
    line.push(b'\n');
    line
}

fn put(fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    write(fd, bytes).is_ok()
}

/// Standard error belongs to whoever started us, so it is not made non-blocking but opened once more.
///
/// A terminal that nobody reads says that it has room and takes half a line; a file never waits, and another opening
/// would write at its beginning.
fn reopen_console() -> Option<File> {
    let kind = fstat(io::stderr()).ok()?.st_mode & SFlag::S_IFMT.bits();
    let waits = kind == SFlag::S_IFCHR.bits() || kind == SFlag::S_IFIFO.bits();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = File::options();
    options.write(true).custom_flags(flags.bits());
    let number = nix::libc::STDERR_FILENO.to_string();
    let open = || {
        options
            .open(Path::new(paths::PROC_SELF_FD).join(number))
            .ok()
    };
    waits.then(open).flatten()
}

/// For what cannot be opened once more, as a socket: it is asked whether it has room.
fn put_if_room(fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
    let room = poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    room && io::stderr().write_all(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_and_has_its_end() {
        assert_eq!(line("a"), b"a\n");
        let long = line(&"\u{e4}".repeat(LINE_MAX));
        assert_eq!((long.len(), long.last()), (LINE_MAX - 1, Some(&b'\n')));
        assert!(String::from_utf8(long).is_ok());
    }
}
