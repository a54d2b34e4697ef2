//! Carries the kernel's entropy over a restart, with SeedRNG's semantics and seeds bound to the machine.
//!
//! | module | pure | what |
//! |---|---|---|
//! | [`args`] | yes | command line to settings |
//! | [`plan`] | yes | the order of steps, as data: read this first |
//! | [`seed`] | yes | hash over old and new, binding to a machine, length |
//! | [`event`] | yes | what can come of it, in words |
//! | [`carry`] | | performs the steps on a folder and a pool, whichever they are |
//! | [`store`] | | the seed folder |
//! | [`pool`] | | the kernel's pool |
//! | [`keeper`] | | one pass: lock, clocks, machine id, report |
//! | [`daemon`] | | the loop: timer, pool, signals |
//!
//! Whether and when this runs before others is init's to arrange.

pub mod args;
pub mod carry;
pub mod daemon;
pub mod event;
pub mod keeper;
pub mod plan;
pub mod pool;
pub mod seed;
pub mod store;

use std::fmt::Arguments;
use std::fs;
use std::io::{self, Write};

use anyhow::Result;
use nix::sys::stat::{Mode, umask};

use args::{Args, Once};
use keeper::{Ending, Keeper, outcome, report};

/// Does what the command line asks for.
///
/// # Errors
/// The folder cannot be used, or what was to be done once, or at the stop, was not done.
pub fn run(args: &Args) -> Result<()> {
    // Nobody else reads a seed, whatever the caller's mask.
    umask(Mode::from_bits_truncate(0o077));
    match args.once {
        Some(Once::Load) => load(args),
        Some(Once::Save) => save(args),
        None => daemon::keep(args),
    }
}

fn load(args: &Args) -> Result<()> {
    // A first boot may have nowhere to put a folder yet, and nothing to load from it either.
    let metadata = fs::symlink_metadata(&args.seed_dir);
    if metadata.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        keeper::report_absence(&args.seed_dir);
        return Ok(());
    }
    let mut keeper = Keeper::open(args)?;
    let events = keeper.pass(&plan::LOAD, Ending::Replace);
    keeper.report_load(&events);
    outcome(&events)
}

fn save(args: &Args) -> Result<()> {
    let events = Keeper::create(args)?.pass(&plan::KEEP, Ending::Save);
    report(&events);
    outcome(&events)
}

/// Writes one line to standard error; that nobody reads it is no reason to die, as it would be for `eprintln!`.
pub fn log(line: Arguments<'_>) {
    // One write a line, so that lines of several programs on one terminal do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
