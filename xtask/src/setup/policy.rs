//! Keeps packages that are being installed from starting their daemons.
//!
//! Debian's maintainer scripts ask `policy-rc.d` first (invoke-rc.d(8)); ours says no, and is gone when the
//! installation ends, also when Ctrl-C ends it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

/// Asked by Debian's maintainer scripts before they start a daemon; 101 means "do not".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What ends us from a terminal or a service manager.
const HELD_BACK: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// How a policy of ours begins; the process that wrote it follows.
const OURS: &str = "#!/bin/sh\n# Put here by cargo xtask setup, gone when it ends: process ";

/// As long as this lives, no daemon is started, and a signal to end is held back; then it takes effect.
#[derive(Debug)]
pub(super) struct NoDaemons {
    path: Option<PathBuf>,
    mask_before: SigSet,
}

impl NoDaemons {
    /// Forbids to start daemons, unless somebody else rules on that already.
    ///
    /// # Errors
    /// The file cannot be written, or signals cannot be held back.
    pub(super) fn begin() -> Result<Self> {
        Self::begin_at(Path::new(POLICY))
    }

    fn begin_at(path: &Path) -> Result<Self> {
        let mut policy = Self {
            path: None,
            mask_before: hold_back()?,
        };
        sweep(path);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path);
        let mut file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(policy),
            created => created.with_context(|| format!("create {}", path.display()))?,
        };
        policy.path = Some(path.to_owned());
        file.write_all(format!("{OURS}{}\nexit 101\n", std::process::id()).as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        Ok(policy)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && fs::remove_file(path).is_err()
        {
            eprintln!(
                "xtask: {} could not be removed; as long as it is there, packages start no daemons",
                path.display()
            );
        }
        // A signal that came meanwhile ends us here.
        if let Err(error) = self.mask_before.thread_set_mask() {
            eprintln!("xtask: signals stay held back: {error}");
        }
    }
}

/// Removes what a run of ours that was killed left behind.
pub(super) fn sweep_leftover() {
    sweep(Path::new(POLICY));
}

fn sweep(path: &Path) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let owner = text
        .strip_prefix(OURS)
        .and_then(|rest| rest.lines().next()?.parse().ok());
    let gone = owner.is_some_and(|id| kill(Pid::from_raw(id), None) == Err(Errno::ESRCH));
    if gone && let Err(error) = fs::remove_file(path) {
        eprintln!("xtask: remove {}: {error}", path.display());
    }
}

/// Holds the signals back in this thread; what we start gets them all the same, for std gives a child an empty mask.
fn hold_back() -> Result<SigSet> {
    let signals: SigSet = HELD_BACK.into_iter().collect();
    signals
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .context("hold back signals")
}

#[cfg(test)]
mod tests {
    use gokrazy_core::atomic::{self, Durability};

    use super::*;

    fn at(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn put(path: &Path, text: &str) {
        atomic::replace(path, text.as_bytes(), 0o755, Durability::Volatile).unwrap();
    }

    #[test]
    fn it_is_there_as_long_as_it_lives() {
        let path = at("policy");
        let policy = NoDaemons::begin_at(&path).unwrap();
        let status = std::process::Command::new(&path).status().unwrap();
        assert_eq!(status.code(), Some(101));
        let second = NoDaemons::begin_at(&path).unwrap();
        drop(second);
        assert!(path.exists(), "another run's is not touched");
        drop(policy);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_taken_away_and_anybody_else_s_stays() {
        let path = at("leftover");
        // The kernel gives out no id above 2^22 (proc(5), pid_max).
        for (text, stays) in [
            (format!("{OURS}4194305\nexit 101\n"), false),
            (format!("{OURS}1\nexit 101\n"), true),
            ("#!/bin/sh\nexit 101\n".to_owned(), true),
            (String::new(), true),
        ] {
            put(&path, &text);
            sweep(&path);
            assert_eq!(path.exists(), stays, "{text:?}");
        }
        fs::remove_file(path).unwrap();
    }
}
