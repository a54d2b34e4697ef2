//! One pass over folder and pool: opens and locks, reads the clocks and the machine id, performs, reports.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use gokrazy_core::paths;
use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};

use crate::args::Args;
use crate::carry::{Carrier, Terms};
use crate::event::Event;
use crate::log;
use crate::plan::{Group, SAVE};
use crate::pool::{KernelPool, Pool};
use crate::seed::{self, Machine, Succession};
use crate::store::{Folder, StoreError};

/// How often to try for the lock before another instance counts as there to stay; one that ends takes milliseconds.
const LOCK_TRIES: u32 = 50;
/// Time between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Most bytes that are read of a file with an id: a page, as sysfs gives.
const ID_FILE_MAX: u64 = 4096;

/// What a pass ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A new seed, creditable if it deserves it.
    Save,
    /// A new seed that is not creditable, if an old one was used up.
    Replace,
}

/// The locked folder, the pool, and the settings.
#[derive(Debug)]
pub struct Keeper {
    folder: Folder,
    pool: KernelPool,
    path: PathBuf,
    machine_id: Vec<PathBuf>,
    board_id: Vec<PathBuf>,
    credit: bool,
}

impl Keeper {
    /// Makes the folder if need be, and opens it.
    ///
    /// # Errors
    /// As [`Folder::create`] and [`Keeper::open`].
    pub fn create(args: &Args) -> Result<Self> {
        Folder::create(&args.seed_dir)?;
        Self::open(args)
    }

    /// Opens the folder; waits a second for another instance that is about to end.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open(args: &Args) -> Result<Self> {
        let mut tries = 0_u32;
        let folder = loop {
            match Folder::open(&args.seed_dir) {
                Err(StoreError::Busy(_)) if tries < LOCK_TRIES => sleep(LOCK_PAUSE),
                result => break result?,
            }
            tries = tries.saturating_add(1);
        };
        Ok(Self {
            folder,
            pool: kernel_pool(),
            path: args.seed_dir.clone(),
            machine_id: args.machine_id.clone(),
            board_id: args.board_id.clone(),
            credit: !args.no_credit,
        })
    }

    /// Makes the folder anew if somebody removed it; where that fails, the next save fails and tells.
    pub fn revive(&mut self) {
        if !self.folder.is_gone() || Folder::create(&self.path).is_err() {
            return;
        }
        if let Ok(folder) = Folder::open(&self.path) {
            log(format_args!(
                "{} was removed; made anew",
                self.path.display()
            ));
            self.folder = folder;
        }
    }

    /// Performs `plan`, then the ending.
    pub fn pass(&mut self, plan: &[Group], ending: Ending) -> Vec<Event> {
        // Each time anew: on a first boot the id comes after the first load, for it takes randomness to make.
        let terms = Terms {
            machine: machine(&self.machine_id, &self.board_id),
            credit: self.credit,
            promote: ending == Ending::Save,
            length: seed::length(fs::read_to_string(paths::RANDOM_POOLSIZE).ok().as_deref()),
        };
        let succession = Succession::new(
            clock(ClockId::CLOCK_REALTIME),
            clock(ClockId::CLOCK_BOOTTIME),
        );
        let mut carrier = Carrier::new(&mut self.folder, &mut self.pool, &terms, succession);
        carrier.perform(plan);
        if ending == Ending::Save || carrier.has_absorbed() {
            carrier.perform(&SAVE);
        }
        carrier.into_events()
    }

    /// Reports a pass that loaded, and that there was nothing to load.
    pub fn report_load(&self, events: &[Event]) {
        let found = |event: &Event| !matches!(event, Event::Saved { .. });
        if !events.iter().any(found) {
            let state = state(&self.pool);
            log(format_args!("no seed in {}; {state}", self.path.display()));
        }
        report(events);
    }

    /// `interval`, give or take an eighth, so that the boards of a rack do not all write at once.
    pub fn jitter(&mut self, interval: Duration) -> Duration {
        let mut chance = [0; 1];
        // Without chance there is still an interval.
        let _ = self.pool.draw(&mut chance);
        spread(interval, chance[0])
    }
}

fn kernel_pool() -> KernelPool {
    KernelPool::new(Path::new(paths::URANDOM))
}

fn state(pool: &KernelPool) -> &'static str {
    match pool.is_ready() {
        true => "the kernel's pool is initialised",
        false => "the kernel's pool is not initialised",
    }
}

/// Reports that there is not even a folder to load from.
pub fn report_absence(folder: &Path) {
    let state = state(&kernel_pool());
    log(format_args!(
        "no seed: {} is not there; {state}",
        folder.display()
    ));
}

fn spread(interval: Duration, chance: u8) -> Duration {
    let eighth = interval / 8;
    let part = eighth.saturating_mul(u32::from(chance)) / 128;
    interval.saturating_sub(eighth).saturating_add(part)
}

fn machine(ids: &[PathBuf], boards: &[PathBuf]) -> Option<Machine> {
    let parse = |path: &PathBuf| Machine::parse(&String::from_utf8(id_file(path)?).ok()?);
    let machine = ids.iter().find_map(parse)?;
    let on_board = |path: &PathBuf| {
        let number = id_file(path)?;
        let there = machine.clone().on_board(&number);
        (there != machine).then_some(there)
    };
    Some(boards.iter().find_map(on_board).unwrap_or(machine))
}

/// Neither waits for a FIFO's other end nor reads a device for ever, whatever a flag names.
fn id_file(path: &Path) -> Option<Vec<u8>> {
    let mut open = OpenOptions::new();
    open.read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    let file = open.open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(ID_FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Zero if the clock cannot be read: it is hashed, and nothing depends on it.
fn clock(id: ClockId) -> Duration {
    clock_gettime(id).map_or(Duration::ZERO, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanoseconds = u32::try_from(time.tv_nsec()).unwrap_or(0);
        Duration::new(seconds, nanoseconds)
    })
}

/// One line an event.
pub fn report(events: &[Event]) {
    for event in events {
        log(format_args!("{event}"));
    }
}

/// Whether all was done; what was not is in the log already.
///
/// # Errors
/// Some event is a failure.
pub fn outcome(events: &[Event]) -> Result<()> {
    let failed = |event: &&Event| matches!(event, Event::Failed(_));
    match events.iter().filter(failed).count() {
        0 => Ok(()),
        1 => bail!("one seed was not carried on"),
        count => bail!("{count} seeds were not carried on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_an_eighth_either_way() {
        let hour = Duration::from_secs(3600);
        assert_eq!(spread(hour, 0), Duration::from_secs(3150));
        assert_eq!(spread(hour, 128), hour);
        assert!(spread(hour, 255) <= Duration::from_secs(4050));
        assert_eq!(spread(Duration::from_secs(1), 128), Duration::from_secs(1));
    }
}
