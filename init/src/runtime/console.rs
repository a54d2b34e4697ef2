//! Enter on the machine's console opens a shell, if the image was built with one.
//!
//! Whoever sits there is root then, without a password: hence no image has one unless its builder asked for it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use gokrazy_core::paths;
use gokrazy_sys::process;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, setsid};

use super::clock;
use super::event_loop::Runtime;
use super::options::Mode;
use super::queue::Source;
use crate::supervise::Moment;

/// A line that makes noise is not answered more often than this.
const ANSWER_AGAIN: Duration = Duration::from_secs(60);

/// The console, and the shell on it.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// Open while nobody else reads it.
    input: Option<File>,
    shell: Option<u32>,
    answered: Option<Moment>,
}

impl Runtime {
    /// Listens for Enter.
    pub(super) fn watch_console(&mut self) {
        if self.options.mode == Mode::Guest {
            return;
        }
        let mut options = File::options();
        options.read(true);
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        // A machine may have no console.
        let input = options.open(paths::CONSOLE).ok();
        self.console.input = input.filter(|file| self.queue.add(file, Source::Console).is_ok());
    }

    pub(super) fn on_console(&mut self) {
        let Some(input) = &mut self.console.input else {
            return;
        };
        let mut buffer = [0; 256];
        match input.read(&mut buffer) {
            Ok(length) if length > 0 => {
                let typed = buffer.get(..length).unwrap_or_default();
                if typed.iter().any(|byte| [b'\n', b'\r'].contains(byte)) {
                    self.on_enter();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It hung up, and would wake us for ever.
            Ok(_) | Err(_) => self.console.input = None,
        }
    }

    fn on_enter(&mut self) {
        let Some(shell) = shell(&fs::read_to_string(paths::EMERGENCY_SHELL).unwrap_or_default())
        else {
            let now = clock::boot();
            let is_early = |answered: Moment| now < answered.saturating_add(ANSWER_AGAIN);
            if !self.console.answered.is_some_and(is_early) {
                self.console.answered = Some(now);
                self.journal.warn(
                    "no shell on this console: build the image with `emergency-shell = true` to have one",
                );
            }
            return;
        };
        let started = process::fork(|| {
            // Nobody is left to tell but who sits there, and the kernel's log has it.
            let error = become_shell(&shell);
            eprintln!("init: run {}: {error}", shell.to_string_lossy());
            1
        });
        match started {
            Ok(pid) => {
                self.journal.warn(format_args!(
                    "Enter on the console: {} runs as root",
                    shell.to_string_lossy()
                ));
                self.console.shell = Some(pid);
                // What is typed is the shell's now.
                self.console.input = None;
            }
            Err(error) => self
                .journal
                .warn(format_args!("make a process for a shell: {error}")),
        }
    }

    /// Takes in that a child ended, the shell perhaps; says whether it was.
    pub(super) fn on_shell_exit(&mut self, pid: u32) -> bool {
        let is_shell = self.console.shell == Some(pid);
        if is_shell {
            self.console.shell = None;
            self.journal.info("the shell on the console has ended");
            self.watch_console();
        }
        is_shell
    }
}

/// The shell that the image names, if it names one.
fn shell(text: &str) -> Option<CString> {
    let path = text.lines().next()?.trim();
    path.starts_with('/').then(|| CString::new(path).ok())?
}

/// Never comes back but with the reason.
fn become_shell(shell: &CString) -> io::Error {
    let run = || -> io::Result<()> {
        process::reset_signal_actions(u64::MAX);
        SigSet::all().thread_unblock()?;
        setsid()?;
        // Without `O_NOCTTY`: the first terminal that the leader of a session opens becomes its own.
        let terminal = File::options().read(true).write(true).open(terminal())?;
        dup2_stdin(terminal.as_fd())?;
        dup2_stdout(terminal.as_fd())?;
        dup2_stderr(terminal.as_fd())?;
        chdir("/")?;
        let path = format!("PATH={}:{}", paths::USER_BIN, paths::SYSTEM_BIN);
        let variables = [
            path,
            "HOME=/".to_owned(),
            "TERM=linux".to_owned(),
            "USER=root".to_owned(),
        ];
        let variables: Vec<CString> = variables
            .into_iter()
            .filter_map(|one| CString::new(one).ok())
            .collect();
        execve(shell, &[shell], &variables)?;
        Ok(())
    };
    run().err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// The console itself cannot be a session's terminal, only the device behind it: the last one that the kernel names.
fn terminal() -> std::path::PathBuf {
    let active = fs::read_to_string(paths::ACTIVE_CONSOLES).unwrap_or_default();
    behind(&active).map_or_else(
        || paths::CONSOLE.into(),
        |name| Path::new(paths::DEV).join(name),
    )
}

fn behind(active: &str) -> Option<&str> {
    active.split_whitespace().last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_shell_names_none() {
        assert_eq!(shell("/gokrazy/sh\n").unwrap().to_str(), Ok("/gokrazy/sh"));
        for text in ["", "\n", "sh\n", "\n/gokrazy/sh\n", "/a\0b\n"] {
            assert_eq!(shell(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_terminal_is_the_last_console() {
        assert_eq!(behind("tty0 ttyS1\n"), Some("ttyS1"));
        assert_eq!(behind(""), None);
    }
}
