//! Stage 2 of the boot: from a mounted root to a machine on which services can run.
//!
//! ```text
//! facts ─► plan (data) ─► perform: mounts · folders · host name · loopback · sysctls
//!                          └► clock floor ─► modules ─► /perm ─► seed ─► machine id ─► report
//! ```
//!
//! Invariants:
//! - Nothing that an operator can configure, and nothing on the card, stops the boot: a step that fails is told on
//!   the console and in the report, and the next one follows.
//! - `/perm` is never formatted; one that cannot be mounted is left as it is, and a temporary one takes its place.
//! - What can take long (modules, growing a file system) is done by a child process.

mod clock_floor;
mod facts;
mod identity;
mod perform;
mod perm;
mod perm_plan;
pub mod plan;
mod seed;
mod serial;

use std::path::{Path, PathBuf};

use crate::boot_info::BootInfo;
use crate::hotplug::Hotplug;
use crate::kmsg::{self, Priority};
use crate::model::model;
use crate::module_loader::Loader;
use crate::paths;

/// What came of the boot.
#[derive(Debug)]
pub struct BootReport {
    /// For `<run-dir>/boot`.
    pub info: BootInfo,
    /// What did not work, one line each; the same lines stand in the kernel's log.
    pub problems: Vec<String>,
    /// The kernel's announcements of devices, for the supervisor's event queue.
    pub hotplug: Option<Hotplug>,
}

/// Boots the machine; to be called once, by PID 1, before the first service.
///
/// Never fails as a whole: what did not work stands in the report.
pub fn boot() -> BootReport {
    let mut problems = Vec::new();
    let early = facts::early();
    perform::all(&plan::early(&early), &mut problems);
    clock_floor::apply(Path::new(paths::BUILD_ID), &mut problems);
    let hotplug = start_modules(&mut problems);
    let from_stage1 = facts::from_stage1();
    let perm = perm::mount(from_stage1.disk.as_deref(), &mut problems);
    perform::all(&plan::late(serial::header_line()), &mut problems);
    seed::load(&mut problems);
    let (machine_id, first_boot) =
        identity::machine_id_or_new(perm.temporary.is_none(), &mut problems);
    let info = BootInfo {
        build_id: facts::build_id(),
        model: model(),
        machine_id,
        boot_id: facts::boot_id(),
        slot: from_stage1.slot,
        attempt: from_stage1.attempt,
        first_boot,
        perm_problem: perm.temporary,
        perm_errors: perm.damage,
        fallback: from_stage1.fallback,
    };
    say(
        Priority::Info,
        &format!(
            "build {} on {}, machine {}",
            info.build_id, info.model, info.machine_id
        ),
    );
    BootReport {
        info,
        problems,
        hotplug,
    }
}

/// Lets a child load what the hardware asks for, the network among it, and meanwhile loads what the image names.
fn start_modules(problems: &mut Vec<String>) -> Option<Hotplug> {
    let folder = module_folder()?;
    let hotplug = Hotplug::start(folder.clone());
    let mut loader = Loader::open(&folder);
    for name in facts::module_list() {
        if loader.knows(&name)
            && let Err(error) = loader.load(&name)
        {
            note(problems, &error.to_string(), &error);
        }
    }
    hotplug
        .inspect_err(|error| problem(problems, &format!("listen for devices: {error}")))
        .ok()
}

fn module_folder() -> Option<PathBuf> {
    let names = nix::sys::utsname::uname().ok()?;
    Some(Path::new(paths::MODULES).join(names.release()))
}

/// Adds a problem with its cause.
fn note(problems: &mut Vec<String>, what: &str, error: &dyn std::error::Error) {
    match error.source() {
        Some(cause) => problem(problems, &format!("{what}: {cause}")),
        None => problem(problems, what),
    }
}

/// Adds a problem, and tells the console.
fn problem(problems: &mut Vec<String>, text: &str) {
    say(Priority::Warning, text);
    problems.push(text.to_owned());
}

fn say(priority: Priority, text: &str) {
    kmsg::say(Path::new(paths::KMSG), priority, format_args!("{text}"));
}
