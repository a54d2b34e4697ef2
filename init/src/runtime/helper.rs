//! Processes of init's own, for what may take long: looking up a name, mounting a disk, writing to a card.

use std::io;

use gokrazy_sys::process;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Makes a process that does `work` and ends with what that returns.
///
/// It ends with init too: whoever comes after an init that was killed finds neither its run folder locked nor anybody
/// at its work.
///
/// # Errors
/// As [`process::fork`].
pub(super) fn fork(work: impl FnOnce() -> u8) -> io::Result<u32> {
    let init = getpid();
    process::fork(|| {
        // One that cannot be told to goes on to its own end.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        // Who was told too late is nobody's helper any more.
        if getppid() == init { work() } else { 1 }
    })
}
