//! What a caller of the supervisor sets.

use std::path::PathBuf;
use std::time::Duration;

use gokrazy_core::paths;

/// What init is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The machine's PID 1: at the end, the machine is rebooted or switched off.
    Machine,
    /// A supervisor in a container, a namespace or anywhere: at the end, it exits.
    Guest,
}

/// Settings of the supervisor.
#[derive(Debug, Clone)]
pub struct Options {
    /// What init is to the machine.
    pub mode: Mode,
    /// Folder of state files, sockets and logs.
    pub run_dir: PathBuf,
    /// Where SIGHUP reads the services anew; absent: they stay as they are.
    pub services: Option<PathBuf>,
    /// Folder of the services' homes.
    pub home_dir: PathBuf,
    /// The program that keeps the logs; absent: this program itself, under the name `logd`.
    pub logd: Option<PathBuf>,
    /// How long a shutdown may take before what still lives is killed.
    pub shutdown_limit: Duration,
    /// The name that `net-online` looks up.
    pub online_name: String,
    /// Whether a guest mounts the disks that tables name; a machine does.
    pub mounts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Guest,
            run_dir: paths::RUN.into(),
            services: None,
            home_dir: paths::PERM_HOME.into(),
            logd: None,
            shutdown_limit: Self::SHUTDOWN_LIMIT,
            online_name: Self::ONLINE_NAME.to_owned(),
            mounts: false,
        }
    }
}

impl Options {
    /// Makes paths absolute: services, logd among them, start in folders of their own.
    pub fn make_absolute(&mut self) {
        let absolute = |path: &mut PathBuf| {
            // Fails only where there is no current folder, and then no path below it either.
            if let Ok(whole) = std::path::absolute(&path) {
                *path = whole;
            }
        };
        absolute(&mut self.run_dir);
        absolute(&mut self.home_dir);
        // A bare name is looked for along PATH.
        self.logd
            .iter_mut()
            .filter(|path| path.components().count() > 1)
            .for_each(absolute);
    }

    /// The name that `net-online` looks up unless another is set.
    pub const ONLINE_NAME: &'static str = "pool.ntp.org";

    /// How long a shutdown may take unless another limit is set.
    pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
}
