//! Runs the steps of a [`plan`](super::plan): one system call each, and no decision.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::sethostname;

use super::plan::Step;
use super::problem;
use crate::paths;

/// Runs all steps; one that fails is noted, and the next one follows.
pub(super) fn all(steps: &[Step], problems: &mut Vec<String>) {
    for step in steps {
        if let Err(error) = perform(step) {
            problem(problems, &format!("{step}: {error}"));
        }
    }
}

fn perform(step: &Step) -> io::Result<()> {
    match step {
        Step::Mount {
            kind,
            target,
            devices,
            options,
        } => mount_kernel_file_system(kind, target, *devices, options),
        Step::Folder { path, mode, owner } => folder(Path::new(path), *mode, *owner),
        Step::Link { path, target } => ignore_existing(symlink(target, path)),
        Step::Controllers => controllers(),
        Step::HostName(name) => Ok(sethostname(name)?),
        Step::Loopback => {
            let socket = socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            gokrazy_sys::loopback::interface_up(socket.as_fd(), "lo")
        }
        Step::Sysctl { key, value } => {
            match write_kernel_file(&Path::new(paths::PROC_SYS).join(key), value) {
                // A kernel without the feature needs no setting for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            }
        }
    }
}

fn mount_kernel_file_system(
    kind: &str,
    target: &str,
    devices: bool,
    options: &str,
) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID
        | if devices {
            MsFlags::empty()
        } else {
            MsFlags::MS_NODEV
        };
    match mount(Some(kind), target, Some(kind), flags, Some(options)) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn folder(path: &Path, mode: u32, owner: u32) -> io::Result<()> {
    ignore_existing(fs::create_dir(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    chown(path, Some(owner), Some(owner))
}

/// Enables those of the controllers that the kernel has: all at once, since each write costs the kernel a wait for every
/// processor, or, if one is refused, those that are not.
fn controllers() -> io::Result<()> {
    let available = fs::read_to_string(paths::CGROUP_CONTROLLERS)?;
    let enable = |line: &str| write_kernel_file(Path::new(paths::CGROUP_SUBTREE), line);
    let wanted: Vec<String> = available
        .split_ascii_whitespace()
        .filter(|name| ["cpu", "io", "memory", "pids"].contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if enable(&wanted.join(" ")).is_ok() {
        return Ok(());
    }
    let results: Vec<_> = wanted.iter().map(|name| enable(name)).collect();
    results.into_iter().collect()
}

/// Files of the kernel cannot be replaced, only written.
fn write_kernel_file(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn ignore_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
