//! What a service is: its description, checked; pure.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | `[[service]]` and `[[mount]]` tables of TOML, with located errors |
//! | [`chunks`] | cuts a text into its tables |
//! | [`load`] | reads a file or a folder of such tables |
//! | [`condition`] | what a service can wait for |
//! | [`values`] | durations, sizes and shares as people write them |
//! | [`signals`], [`capabilities`] | names of signals and capabilities |
//!
//! How a service lives is in [`crate::supervise`], how it is started in [`crate::runtime`].

pub mod capabilities;
pub mod chunks;
pub mod condition;
pub mod load;
mod raw;
mod reader;
pub mod signals;
pub mod table;
pub mod values;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use self::condition::Condition;

/// Longest name of a service, in bytes: it names files, control groups and sockets.
pub const NAME_MAX: usize = 64;

/// The log of init's own lines; no service may have that name.
pub const INIT_LOG: &str = "init";

/// The log of the kernel; no service may have that name.
pub const KERNEL_LOG: &str = "kernel";

/// The service that keeps the logs; no other may have that name.
pub const LOG_KEEPER: &str = "logd";

/// When a service starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With init.
    Boot,
    /// When somebody asks for it.
    Manual,
}

/// Which ends of a service are answered by another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// All but exit status 0.
    OnFailure,
    /// All.
    Always,
    /// None.
    Never,
}

/// Whom a service runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A user of its own, derived from the service's name, and isolated.
    Auto,
    /// A user and group id.
    Id(u32),
    /// A name of `/etc/passwd`.
    Name(String),
}

/// What a service may take of the machine; absent: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of memory; beyond it, the kernel ends the service.
    pub memory: Option<u64>,
    /// Processor time in thousandths of one processor.
    pub cpu_permille: Option<u32>,
    /// Processes and threads.
    pub tasks: Option<u32>,
}

/// Limits of each of its processes (`setrlimit(2)`); absent: as init has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessLimits {
    /// Open files, the soft limit and the hard one.
    pub open_files: Option<u64>,
    /// Bytes of the memory image that a crash leaves in its working directory.
    pub core: Option<u64>,
}

/// How much of its output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes kept until the next boot.
    pub volatile: u64,
    /// Bytes kept over boots; 0: none.
    pub persistent: u64,
}

/// Fences around a service; each is on for `user = "auto"` unless the table says otherwise, and off for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Isolation {
    /// `no_new_privs`: no set-user-id program gives it more than it has.
    pub no_new_privileges: Option<bool>,
    /// A `/tmp` that nobody else sees.
    pub private_tmp: Option<bool>,
    /// Everything but its home, its `/tmp` and what `writable` names is read-only.
    pub read_only: Option<bool>,
    /// System calls that no service needs are refused.
    pub seccomp: Option<bool>,
    /// File access is limited by Landlock as well.
    pub landlock: Option<bool>,
}

/// What a service is to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A program of the operator's: stopped first.
    Application,
    /// A daemon of ours that speaks with other machines to its end: stopped when the applications are gone, while
    /// there is a network.
    Networked,
    /// Another daemon of ours on a device: stopped when those are gone.
    System,
    /// The keeper of the logs: stopped last, told which pipes to read.
    LogKeeper,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name; see [`is_name`].
    pub name: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// The name that the program is given as its own (`argv[0]`), if not the one in `command`.
    pub program_name: Option<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// When it starts.
    pub start: Start,
    /// What must hold before a start.
    pub wait_for: Vec<Condition>,
    /// Which ends are answered by a start.
    pub restart: Restart,
    /// Pause before the first restart.
    pub restart_delay: Duration,
    /// Longest pause before a restart.
    pub restart_delay_max: Duration,
    /// How long a service with `notify` may take to be ready; zero: for ever.
    pub start_timeout: Duration,
    /// Number of the signal that asks it to end.
    pub stop_signal: i32,
    /// How long it may take to end before it is killed.
    pub stop_timeout: Duration,
    /// Whether it tells that it is ready (`sd_notify(3)`).
    pub notify: bool,
    /// Longest silence (`WATCHDOG=1`) before it counts as hung.
    pub watchdog: Option<Duration>,
    /// Whether an update is confirmed only while it is well.
    pub critical: bool,
    /// Whom it runs as.
    pub user: User,
    /// Further groups, by number.
    pub groups: Vec<u32>,
    /// Capabilities that it keeps: bit `n` is capability `n`.
    pub capabilities: u64,
    /// Where it may write beside its home.
    pub writable: Vec<PathBuf>,
    /// Where it starts; its home if absent.
    pub working_directory: Option<PathBuf>,
    /// What it may take of the machine.
    pub limits: Limits,
    /// What each of its processes may take.
    pub process_limits: ProcessLimits,
    /// How much of its output is kept.
    pub log: LogLimits,
    /// Fences around it.
    pub isolation: Isolation,
    /// Nice value, from -20 (served first) to 19 (setpriority(2)); 0 leaves it as it is.
    pub nice: i32,
    /// What it is to init.
    pub role: Role,
}

impl Service {
    /// A service that starts at boot, with the defaults of the table.
    pub fn new(name: impl Into<String>, command: &[&str]) -> Self {
        Self {
            name: name.into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            program_name: None,
            env: Vec::new(),
            start: Start::Boot,
            wait_for: Vec::new(),
            restart: Restart::OnFailure,
            restart_delay: Duration::from_secs(1),
            restart_delay_max: Duration::from_secs(60),
            start_timeout: Duration::from_secs(90),
            stop_signal: signals::TERM,
            stop_timeout: Duration::from_secs(10),
            notify: false,
            watchdog: None,
            critical: false,
            user: User::Auto,
            groups: Vec::new(),
            capabilities: 0,
            writable: Vec::new(),
            working_directory: None,
            limits: Limits::default(),
            process_limits: ProcessLimits::default(),
            log: LogLimits {
                volatile: 256 * 1024,
                persistent: 0,
            },
            isolation: Isolation::default(),
            nice: 0,
            role: Role::Application,
        }
    }

    /// A service that starts when somebody asks for it.
    pub fn new_stopped(name: impl Into<String>, command: &[&str]) -> Self {
        Self {
            start: Start::Manual,
            ..Self::new(name, command)
        }
    }

    /// A service that starts once the clock is synchronised.
    pub fn new_wait_for_clock(name: impl Into<String>, command: &[&str]) -> Self {
        Self::new(name, command).wait_for(Condition::Clock)
    }

    /// Waits for one more condition before a start.
    #[must_use]
    pub fn wait_for(mut self, condition: Condition) -> Self {
        self.wait_for.push(condition);
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs it as this user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    /// Restarts it after these ends.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Why no process can be made of it, if none can; names the table's key.
    pub(crate) fn unrunnable(&self) -> Option<String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Some("key `command`: name a program".to_owned());
        }
        let texts = self.env.iter().flat_map(|(key, value)| [key, value]);
        let mut texts = self.command.iter().chain(texts);
        if texts.any(|text| text.contains('\0')) {
            return Some("keys `command` and `env`: no text may hold a NUL".to_owned());
        }
        let is_variable = |key: &str| !key.is_empty() && !key.contains('=');
        let wrong = self.env.iter().find(|(key, _)| !is_variable(key))?;
        Some(format!("key `env`: `{}` is no variable's name", wrong.0))
    }

    /// The command line for people, as one line.
    pub fn command_line(&self) -> String {
        self.command.join(" ")
    }
}

/// Whether `name` can be a service's: letters, digits and `._-`, not first a dot, at most [`NAME_MAX`] bytes.
///
/// It becomes a file's name, so it must not lead elsewhere.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Splits services that a program made up into those that can be supervised and why the others cannot: a name that is
/// none or is taken, nothing to run, a text that no process can be given.
pub fn sound(services: Vec<Service>) -> (Vec<Service>, Vec<String>) {
    let reserved = [INIT_LOG, KERNEL_LOG, LOG_KEEPER].map(str::to_owned);
    let mut names = HashSet::from(reserved);
    let (mut kept, mut complaints) = (Vec::new(), Vec::new());
    for service in services {
        let why = if !is_name(&service.name) {
            Some("no service can have that name".to_owned())
        } else if !names.insert(service.name.clone()) {
            Some("that name is taken".to_owned())
        } else {
            service.unrunnable()
        };
        match why {
            Some(why) => complaints.push(format!("service {:?}: {why}", service.name)),
            None => kept.push(service),
        }
    }
    (kept, complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_cannot_be_are_left_out_and_named() {
        let services = vec![
            Service::new("a", &["/a"]),
            Service::new("../etc/x", &["/a"]),
            Service::new("logd", &["/a"]),
            Service::new("a", &["/b"]),
            Service::new("none", &[]),
            Service::new("empty", &[""]),
            Service::new("nul", &["/a", "x\0y"]),
            Service::new("variable", &["/a"]).env("A=B", "c"),
            Service::new("b", &["/b"]).env("A", "b=c"),
        ];
        let (kept, complaints) = sound(services);
        let names: Vec<&str> = kept.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(complaints.len(), 7, "{complaints:?}");
        assert_eq!(complaints[1], "service \"logd\": that name is taken");
        assert_eq!(
            complaints[3],
            "service \"none\": key `command`: name a program"
        );
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for (name, want) in [
            ("web-shop", true),
            ("a.b_c", true),
            ("", false),
            (".hidden", false),
            ("-flag", false),
            ("../etc", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(name), want, "{name:?}");
        }
        assert!(is_name(&"x".repeat(NAME_MAX)));
        assert!(!is_name(&"x".repeat(NAME_MAX + 1)));
    }
}
