//! What runs in the initramfs: choose a slot, mount its root, switch to it.
//!
//! ```text
//! mounts → modules until the disk is there → slot table → choose ─► count the attempt on the disk
//!                                               ▲                    │
//!                                               │ condemn            ▼
//!                                               └─────── no ── usable root? ── yes ─► switch root, /gokrazy/init
//! ```
//!
//! Invariants:
//! - An attempt is counted on the disk before the slot is started ([`gokrazy_core::slots`]).
//! - A slot's kernel and root go together: where the firmware can be told, a slot is started by its own kernel.
//! - A firmware that took no notice is told once: the command is given only if it changes what stands there.
//! - Where nothing can be noted, no kernel sends the machine to the other one while its own slot can be started.
//! - A kernel on trial does not wait for its disk for ever; any other does.
//! - A slot is noted as bad only for its own faults, only by its own kernel, and only if the other one can be started.
//! - A disk that refuses to be written does not keep a good slot from starting, and nothing is tried for ever.
//! - Where no slot is left that may be started, what is installed is tried all the same.
//! - Nothing on the disk can make this code panic, and if nothing can be started, the console says what was tried.
//!
//! The choice is in `choice`, pure; `wait`, `kernel`, `table` and `root` touch the machine.

mod choice;
mod kernel;
mod lasting;
mod modules;
mod patience;
mod root;
mod table;
mod wait;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gokrazy_core::boot_disk::BootDisk;
use gokrazy_core::cmdline::CommandLine;
use gokrazy_core::kmsg::{self, Priority};
use gokrazy_core::paths;
use gokrazy_core::slots::{SlotName, Table};
use gokrazy_core::uevent::UeventSocket;
use nix::sys::reboot::{RebootMode, reboot};

use choice::{Candidate, Kernel, Next};
use modules::Modules;
use root::Failed;
use table::SlotTable;
use wait::NoDisk;

/// How long a message that tells of a dead end stays on the console.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What stage 1 hands to stage 2, as environment.
#[derive(Debug, Default)]
struct Handover {
    slot: Option<SlotName>,
    attempt: Option<u8>,
    fallback: Option<String>,
    disk: Option<String>,
}

/// Whether this process is PID 1 of an initramfs of ours.
pub fn is_stage1() -> bool {
    std::process::id() == 1 && root::is_initramfs()
}

/// Boots the machine as far as a root file system, and becomes its init; does not come back.
///
/// If no slot can be started, the console says why and the machine starts anew.
pub fn run() -> ! {
    if let Err(error) = boot() {
        say(Priority::Error, &format!("cannot boot: {error:#}"));
        let way_out = match error.downcast_ref::<NoDisk>() {
            Some(_) => "firmware that has another kernel takes that one next",
            None => "write the image to the card anew, or put a working slot back",
        };
        say(
            Priority::Error,
            &format!("{way_out}; restarting in {} s", LAST_WORDS.as_secs()),
        );
    }
    thread::sleep(LAST_WORDS);
    // It only comes back with an error, and PID 1 must not end: the kernel's `panic=` is for worse.
    loop {
        let _ = reboot(RebootMode::RB_AUTOBOOT);
        thread::sleep(LAST_WORDS);
    }
}

fn boot() -> Result<()> {
    root::mount_early().context("mount the kernel's file systems")?;
    // Opened before the modules are loaded, so that no disk is announced before we listen.
    let uevents = UeventSocket::open().context("listen for devices")?;
    let line = fs::read(paths::PROC_CMDLINE).context("read the kernel command line")?;
    let line = CommandLine::parse(&String::from_utf8_lossy(&line));
    let release = root::kernel_release()?;
    let source = line
        .root()
        .ok_or_else(|| anyhow!("the kernel command line has no root= that we understand"))?;
    let mut modules = Modules::open(&release);
    let disk = wait::for_disk(&line, &source, &uevents, &mut modules)?;
    modules.load_file_system();
    let kernel_slot = line
        .value("gokrazy.slot")
        .and_then(|word| word.parse().ok());
    match SlotTable::read(&disk) {
        Ok(Some(table)) => start_by_table(table, &disk, kernel_slot, &release),
        Ok(None) => start_by_root(&disk, kernel_slot, &release, "there is no whole slot table"),
        Err(error) => start_by_root(
            &disk,
            kernel_slot,
            &release,
            &format!("read the slot table: {error:#}"),
        ),
    }
}

/// Starts the slot that the table names; comes back only if none can be started.
fn start_by_table(
    mut table: SlotTable,
    disk: &BootDisk,
    kernel: Option<SlotName>,
    release: &str,
) -> Result<()> {
    let mut kernel = Kernel {
        slot: kernel,
        switchable: disk.has_partitions(),
    };
    let mut reasons = Vec::new();
    loop {
        match choice::next(table.current(), kernel) {
            Next::Start(candidate) => {
                try_slot(&mut table, disk, kernel, &candidate, release, &mut reasons)?;
            }
            Next::OtherKernel(slot) => {
                let reason = ask_for_kernel_of(&mut table, disk, kernel, slot);
                kernel.switchable = false;
                reasons.push(reason);
            }
            Next::GiveUp => return start_anyway(&table, disk, kernel, release, reasons),
        }
    }
}

/// Starts what is installed although the table forbids it; comes back only if even that fails.
fn start_anyway(
    table: &SlotTable,
    disk: &BootDisk,
    kernel: Kernel,
    release: &str,
    mut reasons: Vec<String>,
) -> Result<()> {
    for slot in choice::last_resort(table.current(), kernel) {
        reasons.push(format!("no slot is good, so slot {slot} is tried as it is"));
        let candidate = Candidate {
            slot,
            attempt: None,
            write_first: None,
        };
        let failed = start(disk, &candidate, release, &reasons, table.current());
        let (Failed::Unusable(error) | Failed::Stranded(error)) = &failed;
        let reason = format!("slot {slot}: {error:#}");
        say(Priority::Error, &reason);
        reasons.push(reason);
        if matches!(failed, Failed::Stranded(_)) {
            break;
        }
    }
    Err(nothing_left(table.current(), &reasons))
}

/// Starts a slot; comes back when it could not be started, with that noted in the table and among the `reasons`.
fn try_slot(
    table: &mut SlotTable,
    disk: &BootDisk,
    kernel: Kernel,
    candidate: &Candidate,
    release: &str,
    reasons: &mut Vec<String>,
) -> Result<()> {
    let slot = candidate.slot;
    let counted = candidate
        .write_first
        .map_or(Ok(()), |counted| table.write(counted));
    let failed = match counted {
        // Without the count, a slot that does not come up would be tried for ever.
        Err(error) if candidate.attempt.is_some() => {
            Failed::Unusable(error.context("count the attempt"))
        }
        counted => {
            if let Err(error) = counted {
                say(Priority::Error, &format!("{error:#}"));
            }
            start(disk, candidate, release, reasons, table.current())
        }
    };
    let (Failed::Unusable(error) | Failed::Stranded(error)) = &failed;
    let reason = format!("slot {slot}: {error:#}");
    say(Priority::Error, &reason);
    reasons.push(reason);
    let condemned = choice::condemned(table.current(), slot);
    if !choice::is_to_blame(table.current(), slot, kernel) {
        table.set_aside(condemned);
    } else if let Err(error) = table.write(condemned) {
        say(
            Priority::Error,
            &format!("note slot {slot} as bad: {error:#}"),
        );
    }
    match failed {
        Failed::Unusable(_) => Ok(()),
        Failed::Stranded(_) => Err(nothing_left(table.current(), reasons)),
    }
}

/// Makes the firmware take the kernel of `slot`, and restarts; comes back only with the reason why not.
fn ask_for_kernel_of(
    table: &mut SlotTable,
    disk: &BootDisk,
    kernel: Kernel,
    slot: SlotName,
) -> String {
    say(
        Priority::Warning,
        &format!("slot {slot} is to be started by its own kernel"),
    );
    if choice::may_stay(table.current(), kernel)
        && let Err(error) = table.write(table.current().next())
    {
        let reason =
            format!("slot {slot} is not tried, what comes of it cannot be noted: {error:#}");
        say(Priority::Warning, &reason);
        return reason;
    }
    let reason = match kernel::select(disk, slot) {
        Ok(kernel::Selected::Changed) => {
            restart();
            "the machine did not restart".to_owned()
        }
        Ok(kernel::Selected::Already) => {
            format!("the firmware was told to take the kernel of slot {slot} and took another")
        }
        Err(error) => format!("tell the firmware to take the kernel of slot {slot}: {error:#}"),
    };
    say(Priority::Warning, &reason);
    reason
}

fn nothing_left(table: &Table, reasons: &[String]) -> anyhow::Error {
    let tried = if reasons.is_empty() {
        "no slot is good".to_owned()
    } else {
        reasons.join("; ")
    };
    anyhow!("{tried} (slot a is {}, slot b is {})", table.a, table.b)
}

/// Starts `candidate`; comes back only with the reason why it could not be started.
fn start(
    disk: &BootDisk,
    candidate: &Candidate,
    release: &str,
    reasons: &[String],
    table: &Table,
) -> Failed {
    let handover = Handover {
        slot: Some(candidate.slot),
        attempt: candidate.attempt,
        fallback: choice::fallback(table, candidate.slot, reasons),
        disk: Some(disk.node().display().to_string()),
    };
    let attempt = candidate
        .attempt
        .map_or(String::new(), |attempt| format!(", attempt {attempt}"));
    say(
        Priority::Info,
        &format!("starting slot {}{attempt}", candidate.slot),
    );
    match disk.root_of(candidate.slot) {
        Ok(device) => root::start(&device, release, &handover),
        Err(error) => Failed::Unusable(error.into()),
    }
}

/// Starts the root that the command line names, as gokrazy does, or else the other slot's.
fn start_by_root(
    disk: &BootDisk,
    kernel: Option<SlotName>,
    release: &str,
    why: &str,
) -> Result<()> {
    say(
        Priority::Warning,
        &format!("{why}: starting what root= names"),
    );
    let mut handover = Handover {
        slot: kernel,
        attempt: None,
        fallback: kernel.map(|_| why.to_owned()),
        disk: disk
            .has_partitions()
            .then(|| disk.node().display().to_string()),
    };
    let named = match root::start(disk.named_root(), release, &handover) {
        Failed::Stranded(error) => return Err(error),
        Failed::Unusable(error) => format!("{error:#}"),
    };
    say(Priority::Error, &named);
    let other = kernel.and_then(|slot| Some((slot.other(), disk.root_of(slot.other()).ok()?)));
    let Some((slot, device)) = other else {
        return Err(anyhow!(named));
    };
    say(Priority::Warning, &format!("starting slot {slot}"));
    handover.slot = Some(slot);
    handover.fallback = Some(named.clone());
    let (Failed::Unusable(error) | Failed::Stranded(error)) =
        root::start(&device, release, &handover);
    Err(anyhow!("{named}; {error:#}"))
}

fn restart() {
    say(Priority::Warning, "restarting for the other kernel");
    nix::unistd::sync();
    // The line above shall reach a serial console before the reset does.
    thread::sleep(Duration::from_millis(200));
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

fn say(priority: Priority, text: &str) {
    kmsg::say(Path::new(paths::KMSG), priority, format_args!("{text}"));
}
