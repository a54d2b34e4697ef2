//! Making a service's process: the clone, and what the new process needs to become its program.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use gokrazy_core::paths;
use gokrazy_sys::process;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::accounts;
use super::cgroup::Group;
use super::child::{self, Credentials, Home, Plan};
use super::fences::Fences;
use super::identity;
use super::log_link::{Output, Pipes};
use super::options::Mode;
use super::start::Precedence;
use super::tree;
use crate::service::{Role, Service, User};

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/user:/gokrazy";

/// What a launch needs beside the service.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The service.
    pub service: &'a Service,
    /// What to run: its command, or what was diverted to.
    pub command: &'a [String],
    /// Whether it is the first start.
    pub first: bool,
    /// Whom it runs as.
    pub uid: u32,
    /// Init's environment.
    pub environment: &'a [(OsString, OsString)],
    /// What init is to the machine.
    pub mode: Mode,
    /// Folder of the homes.
    pub home_dir: &'a Path,
    /// Its notify socket.
    pub notify: Option<&'a OsStr>,
    /// Its input.
    pub stdin: BorrowedFd<'a>,
    /// Its output; init's own errors where it has no pipes.
    pub pipes: Option<&'a Pipes>,
    /// A descriptor that it gets as number 3.
    pub extra: Option<BorrowedFd<'a>>,
    /// Its control group.
    pub group: Option<&'a Group>,
    /// Limits of open files, as init found them; absent: init's own.
    pub open_files: Option<(u64, u64)>,
    /// Most tasks of its user, where no group limits its own.
    pub tasks: Option<u32>,
    /// The precedence of init itself, if it could take some.
    pub precedence: Option<Precedence>,
    /// Signals that init ignores, or was found to ignore.
    pub ignored_signals: u64,
}

/// A process that is on its way.
#[derive(Debug)]
pub struct Launched {
    /// Its number.
    pub pid: u32,
    /// Where it reports: lines, then the end when it runs its program.
    pub report: OwnedFd,
}

impl Launch<'_> {
    /// Makes the process.
    ///
    /// # Errors
    /// What was tried, and the errno: `EAGAIN` at a limit of processes, `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn go(&self) -> Result<Launched, String> {
        let (reader, writer) = report_pipe().map_err(|error| format!("make a pipe: {error}"))?;
        let pid = self
            .spawn(writer.as_fd())
            .map_err(|error| format!("fork: {error}"))?;
        if let Some(precedence) = self.precedence {
            precedence.lend(pid);
        }
        Ok(Launched {
            pid,
            report: reader,
        })
    }

    /// Into its group by the clone; where the kernel or a sandbox knows no such clone, by a plain one.
    fn spawn(&self, report: BorrowedFd<'_>) -> io::Result<u32> {
        // Found out once, and known to all children then.
        let _ = (identity::can_set_groups(), identity::is_root_alone());
        let join = || self.group.map(Group::procs);
        let into = self.group.filter(|group| group.is_fresh());
        let late = || into.is_none().then(join).flatten();
        let folder = into.map(Group::folder).transpose()?;
        let cgroup = folder.as_ref().map(AsFd::as_fd);
        match process::spawn(cgroup, || self.become_it(report, late())) {
            Err(error) if !is_exhausted(&error) => process::fork(|| self.become_it(report, join())),
            result => result,
        }
    }

    /// What the new process does; what it needs is made there, so that it costs init nothing.
    fn become_it(&self, report: BorrowedFd<'_>, join: Option<PathBuf>) -> u8 {
        match self.plan(report, join) {
            Some(plan) => child::run(&plan),
            None => child::refuse(report, "a text holds a NUL"),
        }
    }

    fn plan<'a>(&'a self, report: BorrowedFd<'a>, join: Option<PathBuf>) -> Option<Plan<'a>> {
        let environment = self.environment();
        let (stdout, stderr) = match self.pipes {
            Some(pipes) => (pipes.out.output(), pipes.err.output()),
            None => (Output::Plain(stderr()), Output::Plain(stderr())),
        };
        let program = self.command.first()?;
        Some(Plan {
            name: program,
            programs: self.programs(program, path_of(&environment))?,
            arguments: self.arguments()?,
            environment: environment
                .into_iter()
                .map(assignment)
                .collect::<Option<_>>()?,
            stdin: self.stdin,
            stdout,
            stderr,
            extra: self.extra,
            report,
            join,
            open_files: self.open_files,
            process_limits: self.service.process_limits,
            nice: match self.service.nice {
                0 => self.precedence.and_then(|precedence| precedence.nice),
                own => Some(own),
            },
            ignored_signals: self.ignored_signals,
            tasks: self.tasks,
            become_user: self.credentials(),
            home: self.home().map(|path| Home {
                path,
                owner: self.uid,
            }),
            own_folders: self.own_folders(),
            tells: self.first,
            directory: self.service.working_directory.clone(),
            fences: Fences::of(self.service, self.mode, self.home().as_deref(), program),
        })
    }

    /// Init itself stands in for a log keeper that cannot be run: without one, services block when their pipes are
    /// full.
    fn programs(&self, name: &str, path: String) -> Option<Vec<CString>> {
        let mut programs = programs(name, path)?;
        if self.service.role == Role::LogKeeper {
            programs.push(CString::new(paths::PROC_SELF_EXE).ok()?);
        }
        Some(programs)
    }

    fn arguments(&self) -> Option<Vec<CString>> {
        let name = self.service.program_name.as_ref().or(self.command.first());
        let words = name.into_iter().chain(self.command.iter().skip(1));
        words.map(|word| CString::new(word.as_str()).ok()).collect()
    }

    /// Nothing changes for who is not root (who could not change it) and for root as it is.
    fn credentials(&self) -> Option<Credentials> {
        let service = self.service;
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let all = service.user == User::Id(0) && service.capabilities == 0;
        let (group, further) = self.groups();
        if all && group == 0 && further.is_empty() && identity::is_root_alone() {
            return None;
        }
        Some(Credentials {
            id: self.uid,
            group,
            groups: identity::can_set_groups().then_some(further),
            capabilities: (!all).then_some(service.capabilities),
        })
    }

    /// Its own group and the further ones: for a user by name as the machine's tables say, otherwise the group of the
    /// user's number.
    fn groups(&self) -> (u32, Vec<u32>) {
        let wanted = self.service.groups.iter().copied();
        let account = match &self.service.user {
            User::Name(name) => accounts::lookup(name).ok(),
            User::Auto | User::Id(_) => None,
        };
        match account.filter(|account| account.uid == self.uid) {
            Some(account) => (
                account.gid,
                account.further.into_iter().chain(wanted).collect(),
            ),
            None => (self.uid, wanted.collect()),
        }
    }

    /// Applications have a home; our daemons have folders of their own.
    fn home(&self) -> Option<PathBuf> {
        let application = self.service.role == Role::Application;
        application.then(|| self.home_dir.join(&self.service.name))
    }

    /// On a device nobody else would make them; elsewhere whoever made the container decides who owns what.
    fn own_folders(&self) -> Option<(&[PathBuf], u32)> {
        let ours = self.mode == Mode::Machine && self.service.role == Role::Application;
        ours.then_some((self.service.writable.as_slice(), self.uid))
    }

    /// As gokrazy builds it: init's own, the table's, what we tell, and defaults for what is not there.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.to_vec();
        let mut set = |key: &str, value: OsString| {
            variables.retain(|(name, _)| name != key);
            variables.push((key.into(), value));
        };
        set(
            "HOME",
            self.home()
                .map_or_else(|| "/".into(), PathBuf::into_os_string),
        );
        if self.service.user != User::Id(nix::unistd::geteuid().as_raw()) {
            set("USER", self.user_name().into());
        }
        for (key, value) in &self.service.env {
            set(key, value.into());
        }
        set(tree::MARK, (&self.service.name).into());
        if self.first {
            set("GOKRAZY_FIRST_START", "1".into());
        }
        if let Some(address) = self.notify {
            set("NOTIFY_SOCKET", address.to_owned());
        }
        if let Some(limit) = self.service.watchdog {
            set("WATCHDOG_USEC", limit.as_micros().to_string().into());
        }
        for (key, default) in [("PATH", DEFAULT_PATH), ("USER", self.user_name())] {
            if !variables.iter().any(|(name, _)| name == key) {
                variables.push((key.into(), default.into()));
            }
        }
        variables
    }

    fn user_name(&self) -> &str {
        match (&self.service.user, self.uid) {
            (_, 0) => "root",
            (User::Name(name), _) => name,
            (User::Auto | User::Id(_), _) => &self.service.name,
        }
    }
}

/// Only the end that init reads does not block: news of an earlier start's may come after this one has begun.
fn report_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EAGAIN | nix::libc::ENOMEM)
    )
}

fn stderr() -> BorrowedFd<'static> {
    // A static, since standard error is open as long as the process lives.
    static STDERR: std::sync::OnceLock<io::Stderr> = std::sync::OnceLock::new();
    STDERR.get_or_init(io::stderr).as_fd()
}

fn path_of(environment: &[(OsString, OsString)]) -> String {
    let path = environment.iter().find(|(name, _)| name == "PATH");
    path.map_or(String::new(), |(_, value)| {
        value.to_string_lossy().into_owned()
    })
}

/// The places where a program may be: itself if it is a path, else in each folder of `path`.
fn programs(name: &str, path: String) -> Option<Vec<CString>> {
    if name.contains('/') {
        return Some(vec![CString::new(name).ok()?]);
    }
    path.split(':')
        .map(|folder| CString::new(format!("{folder}/{name}")).ok())
        .collect()
}

fn assignment((key, value): (OsString, OsString)) -> Option<CString> {
    let mut bytes = key.into_vec();
    bytes.push(b'=');
    bytes.extend(value.into_vec());
    CString::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for_along_the_path() {
        let c = |text: &str| CString::new(text).unwrap();
        assert_eq!(
            programs("/bin/sh", "/a".to_owned()),
            Some(vec![c("/bin/sh")])
        );
        assert_eq!(
            programs("sh", "/a:/b".to_owned()),
            Some(vec![c("/a/sh"), c("/b/sh")])
        );
        assert_eq!(programs("s\0h", "/a".to_owned()), None);
    }
}
