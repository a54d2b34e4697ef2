//! The service that keeps the logs of all others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gokrazy_core::{paths, users};

use super::options::{Mode, Options};
use crate::service::{LOG_KEEPER, Restart, Role, Service, User};

/// Services block when their pipes are full, so a new logd is there as soon as the old one is gone.
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// One that cannot live is not tried more often than this.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Logd as a service.
pub fn service(options: &Options, log_dir: &Path) -> Service {
    let mut service = Service::new(LOG_KEEPER, &[]);
    service.command = vec![
        program(options.logd.as_deref()),
        "--socket-fd".to_owned(),
        "3".to_owned(),
        "--log-dir".to_owned(),
        log_dir.display().to_string(),
    ];
    // By that name init knows what to be, which is the default and stands in for another that cannot be run.
    service.program_name = Some(LOG_KEEPER.to_owned());
    if options.mode == Mode::Machine {
        service
            .command
            .extend(["--persistent-dir".to_owned(), paths::PERM_LOG.to_owned()]);
    }
    service.restart = Restart::Always;
    service.restart_delay = FIRST_DELAY;
    service.restart_delay_max = LONGEST_DELAY;
    // In a container the run folder belongs to whoever runs init; on a device logd has its own.
    service.user = match options.mode {
        Mode::Machine => User::Id(users::LOGD.id),
        Mode::Guest => User::Id(nix::unistd::geteuid().as_raw()),
    };
    service.working_directory = Some("/".into());
    service.role = Role::LogKeeper;
    service.isolation.no_new_privileges = Some(true);
    service.isolation.seccomp = Some(true);
    if options.mode == Mode::Machine {
        service.isolation.landlock = Some(true);
        service.writable = vec![log_dir.to_owned(), paths::PERM_LOG.into()];
    }
    service
}

/// The program; by default init itself: two processes of one program share its pages, and a container needs one file.
fn program(wanted: Option<&Path>) -> String {
    let path = match wanted {
        Some(path) => path.to_owned(),
        // Without `/proc`, what whoever started us called us is the best guess.
        None => std::env::current_exe()
            .ok()
            .or_else(own_name)
            .unwrap_or_else(|| PathBuf::from(paths::SYSTEM_BIN).join("init")),
    };
    path.display().to_string()
}

fn own_name() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    let is_path = name.components().count() > 1;
    is_path.then(|| std::path::absolute(&name).unwrap_or(name))
}

/// Whether this process was started to keep the logs, by a supervisor of the same program.
pub fn is_wanted() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name() == Some(LOG_KEEPER.as_ref())
}
