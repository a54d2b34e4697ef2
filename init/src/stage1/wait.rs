//! Waits for the disk, and loads modules meanwhile.

use std::fmt;
use std::time::{Duration, Instant};

use gokrazy_core::boot_disk::{self, BootDisk};
use gokrazy_core::cmdline::{CommandLine, RootSource};
use gokrazy_core::kmsg::Priority;
use gokrazy_core::uevent::UeventSocket;

use super::modules::Modules;
use super::{patience, say};

/// Devices come with an announcement; this is for those that were announced while we looked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// After this the disk's driver may be one that no device asks for.
const SHYNESS: Duration = Duration::from_secs(3);

/// After this the console learns what we wait for, and again at each multiple.
const PATIENCE: Duration = Duration::from_secs(5);

/// The disk did not come in the time that it had.
#[derive(Debug)]
pub(super) struct NoDisk {
    source: RootSource,
    limit: Duration,
}

impl fmt::Display for NoDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.limit.as_secs();
        write!(f, "wait for {}: not there after {seconds} s", self.source)
    }
}

impl std::error::Error for NoDisk {}

/// Loads modules until the disk with the root is there, and waits for it, telling the console what is missing: for
/// ever, or as long as [`patience::limit`] says.
///
/// # Errors
/// The time is over.
#[expect(clippy::disallowed_methods, reason = "this is the loop that waits")]
pub(super) fn for_disk(
    line: &CommandLine,
    source: &RootSource,
    uevents: &UeventSocket,
    modules: &mut Modules,
) -> Result<BootDisk, NoDisk> {
    let start = Instant::now();
    let mut told = 0;
    let mut limit = patience::limit(line, false);
    loop {
        if let Some(disk) = BootDisk::find(source) {
            return Ok(disk);
        }
        let expired = limit.filter(|limit| start.elapsed() >= *limit);
        if let Some(limit) = expired {
            let source = source.clone();
            return Err(NoDisk { source, limit });
        }
        modules.listen(uevents);
        if modules.load_next() {
            continue;
        }
        // Disks are found by kernel threads: there is time.
        modules.load_file_system();
        if start.elapsed() >= SHYNESS {
            modules.want_all();
        }
        let patience_lost = start.elapsed().as_secs() / PATIENCE.as_secs();
        if patience_lost > told {
            let on_trial = told == 0 && patience::is_on_trial(modules);
            if on_trial {
                say(
                    Priority::Warning,
                    "the firmware starts this kernel on trial",
                );
                limit = patience::limit(line, on_trial);
            }
            told = patience_lost;
            tell_what_is_missing(source, limit);
        }
        uevents.wait(LOOK_AGAIN);
    }
}

fn tell_what_is_missing(source: &RootSource, limit: Option<Duration>) {
    let disks = boot_disk::disks().join(", ");
    let known = if disks.is_empty() { "none" } else { &disks };
    let why = boot_disk::obstacle(source).map_or(String::new(), |why| format!("; {why}"));
    let end = match limit {
        Some(limit) => format!("at most {} s", limit.as_secs()),
        None => "for ever".to_owned(),
    };
    say(
        Priority::Warning,
        &format!("waiting {end} for {source}; disks so far: {known}{why}"),
    );
}
