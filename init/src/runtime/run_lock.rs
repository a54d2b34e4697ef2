//! One init a run folder: a second one would answer at the first one's socket and overwrite its state files.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// So often the lock is tried: what a dying init leaves behind may hold it for an instant.
const TRIES: u32 = 5;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Marks the folder as taken for as long as the value lives (`flock(2)`); no trace stays of an init that was killed.
///
/// # Errors
/// `EWOULDBLOCK` if another process has it; else why it cannot be marked, as on file systems without locks.
pub fn take(run_dir: &Path) -> io::Result<Flock<File>> {
    let mut folder = File::open(run_dir)?;
    for _ in 1..TRIES {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Err((back, Errno::EWOULDBLOCK)) => folder = back,
            Err((_, errno)) => return Err(errno.into()),
            Ok(lock) => return Ok(lock),
        }
        thread::sleep(PAUSE);
    }
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}
