//! State files: what init says of each service, replaced whole.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use gokrazy_core::atomic::{self, Durability, ReplaceError};
use gokrazy_core::paths;
use gokrazy_core::service_status::ServiceStatus;

use crate::supervise::registry::Registry;

/// What the shell knows of a service beside its life.
#[derive(Debug, Default)]
pub struct Facts {
    /// Whom it runs as.
    pub uid: Option<u32>,
    /// When it was last started, in Unix milliseconds.
    pub started_at_ms: Option<i64>,
    /// Fences that this machine cannot give, for people.
    pub unfenced: Vec<String>,
}

/// The state of the service at `index`, as it is published.
pub fn status(registry: &Registry, index: usize, facts: &Facts) -> Option<ServiceStatus> {
    let entry = registry.entries().get(index)?;
    let machine = &entry.machine;
    if entry.is_gone && !machine.has_processes() {
        return None;
    }
    let state = machine.state();
    let waits = state == gokrazy_core::service_status::State::Waiting;
    let waiting_for: Vec<String> = registry.unmet(index).map(ToString::to_string).collect();
    Some(ServiceStatus {
        name: entry.service.name.clone(),
        state,
        command: entry.service.command_line(),
        pid: machine.pid(),
        uid: facts.uid,
        since_ms: u64::try_from(machine.entered().as_millis()).unwrap_or(u64::MAX),
        started_at_ms: facts.started_at_ms,
        restarts: machine.starts().saturating_sub(1),
        last_exit: machine.last_ending().map(ToString::to_string),
        status_text: machine.status_text().map(str::to_owned),
        diverted: entry.diverted.as_ref().map(|command| command.join(" ")),
        failures: machine.failures(),
        waiting_for: waits.then(|| waiting_for.join(" ")),
        critical: entry.service.critical,
        unfenced: (!facts.unfenced.is_empty()).then(|| facts.unfenced.join(", ")),
        history: machine.history().cloned().collect(),
    })
}

/// Writes a state file.
///
/// # Errors
/// The step that failed; the old file is still there.
pub fn write(run_dir: &Path, status: &ServiceStatus) -> Result<(), ReplaceError> {
    let path = run_dir.join(paths::SERVICE_DIR).join(&status.name);
    let text = status.render();
    let put = || atomic::replace(&path, text.as_bytes(), 0o644, Durability::Volatile);
    match put() {
        // There was no room for it at the start, or somebody has cleared the run folder.
        Err(error) if error.io_error().kind() == io::ErrorKind::NotFound => {
            let made = folder(&run_dir.join(paths::SERVICE_DIR), 0o755);
            made.map_or(Err(error), |()| put())
        }
        done => done,
    }
}

/// Makes a folder unless it is there, and its parents.
///
/// # Errors
/// The errno of the one that cannot be made.
pub fn folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
}

/// Removes the state files of an earlier run, which speak of processes that are not ours.
pub fn sweep(run_dir: &Path) {
    for name in [paths::SERVICE_DIR, paths::MOUNT_DIR] {
        let folder = fs::read_dir(run_dir.join(name));
        for entry in folder.into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
