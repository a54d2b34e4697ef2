//! PID 1 as a library, and the modules behind the binaries `init`, `logd` and `web`.
//!
//! | module | what | who uses it |
//! |---|---|---|
//! | [`cli`] | the command lines | `init`, `logd` |
//! | [`stage1`] | what runs in the initramfs: choose a slot, mount its root, switch to it | `init` |
//! | [`machine`] | the machine's PID 1: boot, supervise, end | `init` |
//! | [`mount`] | disks that tables name: when they are mounted, and how |
//! | [`service`] | what a service is, and the table that describes it | all, and the image builder |
//! | [`supervise`] | how services live, decided without touching anything | `init` |
//! | [`runtime`] | the shell around it: processes, sockets, files | `init` |
//! | [`logd`] | the keeper of the logs | `logd` |
//! | [`syslog`] | what it kept, sent to a collector | `logd --forward` |
//! | [`ctl`] | what people and scripts ask of a running init | `init ctl` |
//! | `web` (feature `web`) | the status page and the API, an unprivileged process of its own | `web` |
//!
//! An init of your own is [`supervise_services`] and a list of [`Service`]; see `examples/custom_init.rs`.
//! PID 1 links no async runtime and parses nothing that came from the network.

pub mod cli;
pub mod ctl;
pub mod logd;
pub mod machine;
pub mod mount;
pub mod runtime;
pub mod service;
pub mod stage1;
pub mod supervise;
pub mod syslog;
#[cfg(feature = "web")]
pub mod web;

use std::fmt;
use std::io;
use std::path::Path;

use gokrazy_core::control::End;
use gokrazy_core::hotplug::Hotplug;
use gokrazy_core::paths;
use nix::sys::prctl;
use nix::sys::stat::{Mode as FileMode, umask};

pub use crate::runtime::options::{Mode, Options};
pub use crate::service::Service;

use crate::runtime::devices::Devices;
use crate::runtime::event_loop::Runtime;
use crate::runtime::journal::Journal;
use crate::runtime::{cgroup, keeper, panic, publish, run_lock};
use crate::service::load;

/// Where a service's processes are, for programs that do not care for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// There is none.
    Stopped,
    /// The main process lives.
    Running,
    /// The main process was told to end.
    Stopping,
}

impl From<gokrazy_core::service_status::State> for ProcessState {
    fn from(state: gokrazy_core::service_status::State) -> Self {
        use gokrazy_core::service_status::State;
        match state {
            State::Starting | State::Running | State::Reloading => Self::Running,
            State::Stopping => Self::Stopping,
            State::Stopped
            | State::Waiting
            | State::Finished
            | State::Restarting
            | State::CrashLoop => Self::Stopped,
        }
    }
}

/// What supervision cannot begin without.
#[derive(Debug)]
pub enum SuperviseError {
    /// The folder of sockets and state files.
    RunDir(std::path::PathBuf, io::Error),
    /// Another init has that folder.
    Shared(std::path::PathBuf),
    /// The event queue, the signals, `/dev/null`.
    Prepare(io::Error),
}

impl SuperviseError {
    /// What failed and why, as one line for people.
    fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for SuperviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunDir(path, _) => write!(f, "make the run folder {}", path.display()),
            Self::Shared(path) => write!(
                f,
                "another init runs at {}: give this one a folder of its own with --run-dir",
                path.display()
            ),
            Self::Prepare(_) => f.write_str("prepare to supervise"),
        }
    }
}

impl std::error::Error for SuperviseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::RunDir(_, source) | Self::Prepare(source) => Some(source),
            Self::Shared(_) => None,
        }
    }
}

/// Supervises `services` until a signal or a client says to end, then stops them; returns how to end.
///
/// The process must have a single thread, and hands over SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and
/// SIGPWR, and all its children; its umask becomes 022.
/// Unless [`Options::logd`] names another, its program is run once more under the name `logd` to keep the logs; that
/// process ends in here, so nothing that must happen once may stand before the call.
/// A service that no table could describe is logged and left out: see [`service::sound`].
///
/// # Errors
/// What supervision cannot begin without; nothing that happens later ends it.
pub fn supervise_services(services: Vec<Service>, options: Options) -> Result<End, SuperviseError> {
    if keeper::is_wanted() {
        let code = cli::logd();
        let failed = code != std::process::ExitCode::SUCCESS;
        std::process::exit(i32::from(failed));
    }
    let (services, complaints) = service::sound(services);
    supervise(services, complaints, options, Devices::default()).map(|(end, _)| end)
}

/// Supervises the services of a file or a folder as [`supervise_services`] does.
///
/// # Errors
/// As [`supervise_services`]; a table that cannot be read is logged and costs its service alone.
pub fn supervise_with(mut options: Options, place: &Path) -> Result<End, SuperviseError> {
    options.services = Some(place.to_owned());
    let reserved = [service::INIT_LOG, service::KERNEL_LOG, service::LOG_KEEPER];
    let mut loaded = load::load(place, &reserved);
    let devices = match options.mounts {
        true => guest_devices(&mut loaded),
        false => Devices::default(),
    };
    let unheeded = loaded.mounts.iter().map(|placed| {
        let target = placed.mount.target.display();
        format!("[[mount]] {target}: left to others without --mounts")
    });
    loaded.complaints.extend(unheeded);
    supervise(loaded.services, loaded.complaints, options, devices).map(|(end, _)| end)
}

/// Disks to mount, and who announces them; modules are the business of the machine's own init.
fn guest_devices(loaded: &mut load::Loaded) -> Devices {
    let placed = std::mem::take(&mut loaded.mounts);
    let mounts: Vec<_> = placed.into_iter().map(|placed| placed.mount).collect();
    let hotplug = match Hotplug::listen() {
        Ok(hotplug) => Some(hotplug).filter(|_| !mounts.is_empty()),
        Err(error) => {
            loaded.complaints.push(format!("listen for disks: {error}"));
            None
        }
    };
    Devices {
        hotplug,
        watchdog: None,
        mounts,
    }
}

/// Gives the devices back to whoever ends the machine's run.
fn supervise(
    mut services: Vec<Service>,
    complaints: Vec<String>,
    mut options: Options,
    devices: Devices,
) -> Result<(End, Devices), SuperviseError> {
    // Descriptors that whoever started us left open are no business of the services; kernels before 5.11 cannot.
    let _ = gokrazy_sys::process::close_on_exec_from(3);
    // State files are for everybody to read, and services start with what a machine's first process finds.
    umask(FileMode::from_bits_truncate(0o022));
    // Orphans come to us also where we are not PID 1; it fails on no kernel that runs us.
    let _ = prctl::set_child_subreaper(true);
    options.make_absolute();
    let run_dir = options.run_dir.clone();
    publish::folder(&run_dir, 0o755)
        .map_err(|source| SuperviseError::RunDir(run_dir.clone(), source))?;
    let lock = run_lock::take(&run_dir);
    let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    // A device needs its init whoever holds the lock.
    if options.mode == Mode::Guest && lock.as_ref().is_err_and(is_taken) {
        return Err(SuperviseError::Shared(run_dir));
    }
    let mut journal = Journal::new();
    match &lock {
        Err(error) => journal.warn(format_args!("lock {}: {error}", run_dir.display())),
        Ok(_) if cgroup::kill_left(&run_dir) => {
            journal.warn("killed the services that an earlier init left behind");
        }
        Ok(_) => {}
    }
    if panic::count() > 0 {
        journal.warn(format_args!(
            "init had a bug and began anew ({} times so far)",
            panic::count()
        ));
    }
    for complaint in complaints {
        journal.warn(complaint);
    }
    services.insert(0, keeper::service(&options, &run_dir.join(paths::LOG_DIR)));
    let runtime =
        Runtime::new(options, services, journal, devices).map_err(SuperviseError::Prepare)?;
    Ok(runtime.run())
}
