//! The state files, and waiting for one to settle.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use gokrazy_core::control::Refusal;
use gokrazy_core::mount_status::MountStatus;
use gokrazy_core::paths;
use gokrazy_core::service_status::ServiceStatus;

use super::CtlError;
use crate::runtime::clock;

/// How often a state file is looked at while waiting.
const PERIOD: Duration = Duration::from_millis(20);

/// Whether a service is where it was asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is.
    Well,
    /// It will not get there.
    Badly,
    /// It is on its way.
    NotYet,
}

/// The state of one service.
///
/// # Errors
/// [`Refusal::NoSuchService`], or why the file cannot be read.
pub fn one(run_dir: &Path, name: &str) -> Result<ServiceStatus, CtlError> {
    let path = run_dir.join(paths::SERVICE_DIR).join(name);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CtlError::Refused(name.to_owned(), Refusal::NoSuchService));
        }
        other => {
            other.map_err(|error| CtlError::Other(format!("read {}: {error}", path.display())))?
        }
    };
    let malformed = |error| CtlError::Other(format!("read {}: {error}", path.display()));
    ServiceStatus::parse(&text).map_err(malformed)
}

/// The states of all services, by name; one whose file cannot be read is left out.
///
/// # Errors
/// Why the folder cannot be read.
pub fn all(run_dir: &Path) -> Result<Vec<ServiceStatus>, CtlError> {
    let folder = run_dir.join(paths::SERVICE_DIR);
    let entries = fs::read_dir(&folder)
        .map_err(|error| CtlError::Other(format!("read {}: {error}", folder.display())))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names
        .iter()
        .filter_map(|name| one(run_dir, name).ok())
        .collect())
}

/// The states of all mounts, in the order of their tables; one whose file cannot be read is left out.
pub fn mounts(run_dir: &Path) -> Vec<MountStatus> {
    let folder = run_dir.join(paths::MOUNT_DIR);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let read = |number: &u32| fs::read_to_string(folder.join(number.to_string())).ok();
    let texts = numbers.iter().filter_map(read);
    texts
        .filter_map(|text| MountStatus::parse(&text).ok())
        .collect()
}

/// Waits until the service has settled, at most `limit`.
///
/// # Errors
/// [`CtlError::Ended`] if it settled badly, [`CtlError::Timeout`] if it did not settle.
pub fn wait(
    run_dir: &Path,
    name: &str,
    limit: Duration,
    settled: fn(&ServiceStatus) -> Settled,
) -> Result<ServiceStatus, CtlError> {
    let deadline = clock::boot().saturating_add(limit);
    loop {
        let status = one(run_dir, name)?;
        match settled(&status) {
            Settled::Well => return Ok(status),
            Settled::Badly => return Err(CtlError::Ended(Box::new(status))),
            Settled::NotYet if clock::boot() >= deadline => {
                return Err(CtlError::Timeout(Box::new(status)));
            }
            Settled::NotYet => thread::sleep(PERIOD),
        }
    }
}
