//! The daemon's loop: load once, then save whenever the timer, the pool or a signal says so.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gokrazy_core::paths;
use gokrazy_sys::memory;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use crate::args::Args;
use crate::event::{Event, Uncredited};
use crate::keeper::{Ending, Keeper, outcome, report};
use crate::plan::{KEEP, LOAD};

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// The interval is over.
    Timer,
    /// The pool is initialised, which it was not when the last seed was drawn from it.
    PoolReady,
    /// SIGHUP.
    SaveNow,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Carries entropy on until a signal ends it.
///
/// # Errors
/// The folder cannot be used, or the seed at the stop was not saved.
pub fn keep(args: &Args) -> Result<()> {
    // Before the first byte moves, so that a stop at any time ends with a save.
    let signals = block_signals().context("take signals by descriptor")?;
    let mut keeper = Keeper::create(args)?;
    let mut last = keeper.pass(&LOAD, Ending::Save);
    keeper.report_load(&last);
    let mut wake = Wake::Timer;
    loop {
        // Not twice in a row: before Linux 5.6 the device is readable earlier than getrandom(2) gives bytes.
        let pool = match wake {
            Wake::PoolReady => None,
            Wake::Timer | Wake::SaveNow | Wake::Stop => awaited_pool(&last),
        };
        wake = wait(&signals, pool.as_ref(), keeper.jitter(args.interval))?;
        keeper.revive();
        let events = keeper.pass(&KEEP, Ending::Save);
        // A save that went like the one before is no news.
        let is_news = saves(&events) != saves(&last);
        if is_news || wake == Wake::Stop || wake == Wake::SaveNow {
            report(&events);
        }
        if wake == Wake::Stop {
            return outcome(&events);
        }
        last = events;
    }
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The device to watch, if the last seed lacks nothing but an initialised pool.
fn awaited_pool(last: &[Event]) -> Option<File> {
    let unready = |event: &Event| {
        let uncredited = Some(Uncredited::Unready);
        matches!(event, Event::Saved { uncredited: why, .. } if *why == uncredited)
    };
    last.iter()
        .any(unready)
        .then(|| File::open(paths::RANDOM).ok())?
}

fn saves(events: &[Event]) -> Vec<String> {
    let is_save = |event: &&Event| matches!(event, Event::Saved { .. } | Event::Failed(_));
    let saves = events.iter().filter(is_save);
    saves.map(ToString::to_string).collect()
}

#[expect(clippy::disallowed_methods, reason = "this is the main loop")]
fn wait(signals: &SignalFd, pool: Option<&File>, interval: Duration) -> Result<Wake> {
    let start = Instant::now();
    loop {
        let mut sources = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(pool.map(|pool| PollFd::new(pool.as_fd(), PollFlags::POLLIN)));
        let left = interval.saturating_sub(start.elapsed());
        // Nothing but the wait is needed now, perhaps for an hour.
        memory::forget_code();
        match ppoll(&mut sources, Some(TimeSpec::from_duration(left)), None) {
            // A stop and a continue of the process.
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(io::Error::from(errno)).context("wait for a signal"),
            Ok(0) => return Ok(Wake::Timer),
            Ok(_) => {}
        }
        match signals.read_signal().context("read a signal")? {
            None => return Ok(Wake::PoolReady),
            Some(info) if info.ssi_signo == Signal::SIGHUP as u32 => return Ok(Wake::SaveNow),
            Some(_) => return Ok(Wake::Stop),
        }
    }
}
