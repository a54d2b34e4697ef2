//! One daemon a state folder: two would steer one clock against each other, and overwrite each other's files.
//!
//! Tested as a process, by `tests/daemon.rs`.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often the lock is tried: a daemon that was just told to end may hold it for an instant.
const TRIES: u32 = 20;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Another daemon holds the folder.
#[derive(Debug)]
pub struct Taken(PathBuf);

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is in use by another ntp; stop that one, or send it SIGHUP to ask all servers anew",
            self.0.display()
        )
    }
}

impl std::error::Error for Taken {}

/// Marks the folder as taken for as long as the value lives (`flock(2)`); no trace stays of a daemon that was killed.
///
/// A folder that is missing, or that cannot be locked, stops nobody.
///
/// # Errors
/// Another process has it.
pub fn take(folder: &Path) -> Result<Option<File>, Taken> {
    let Ok(handle) = File::open(folder) else {
        return Ok(None);
    };
    for attempt in 0..TRIES {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        match handle.try_lock() {
            Ok(()) => return Ok(Some(handle)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(Taken(folder.to_owned()))
}
