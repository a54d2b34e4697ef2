//! Between clone and exec: what the new process does to itself.
//!
//! It runs on its own copy of the memory, so it may allocate; what fails is reported through a pipe that exec closes.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use gokrazy_core::paths;
use gokrazy_sys::{capability, process};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode as FileMode, fchmod};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, setgroups, setresgid,
    setresuid, setsid, write,
};

use super::fences::Fences;
use super::log_link::Output;
use super::own_folder::make_own;
use crate::service::{ProcessLimits, capabilities};

/// Exit status of a child that could not become its program; nobody sees it but through the report.
const NOT_STARTED: u8 = 127;

/// All that the child needs.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What it is to run, for people.
    pub name: &'a str,
    /// Program, where it is looked for in this order.
    pub programs: Vec<CString>,
    /// Arguments with the program's name.
    pub arguments: Vec<CString>,
    /// Variables.
    pub environment: Vec<CString>,
    /// Its input.
    pub stdin: BorrowedFd<'a>,
    /// Its output.
    pub stdout: Output<'a>,
    /// Its errors.
    pub stderr: Output<'a>,
    /// A descriptor that it gets as number 3.
    pub extra: Option<BorrowedFd<'a>>,
    /// Where it reports what fails.
    pub report: BorrowedFd<'a>,
    /// The file by which it joins its control group, if the clone did not put it there.
    pub join: Option<PathBuf>,
    /// Limits of open files, soft and hard, as init found them; absent: init's own.
    pub open_files: Option<(u64, u64)>,
    /// Its own limits, where it has some.
    pub process_limits: ProcessLimits,
    /// Most tasks of its user, where no group limits its own.
    pub tasks: Option<u32>,
    /// The nice value that init was found with, where it has to be set.
    pub nice: Option<i32>,
    /// Signals that init ignores, or was found to ignore.
    pub ignored_signals: u64,
    /// Whom it becomes; `None`: it stays what it is.
    pub become_user: Option<Credentials>,
    /// Its home, if it has one.
    pub home: Option<Home>,
    /// Folders that are to be its own, and its user: made where they are absent.
    pub own_folders: Option<(&'a [PathBuf], u32)>,
    /// Whether those that cannot be are told, once in its life.
    pub tells: bool,
    /// Where it starts instead.
    pub directory: Option<PathBuf>,
    /// Fences around it.
    pub fences: Fences,
}

/// A home folder, made at the start.
#[derive(Debug)]
pub struct Home {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: u32,
}

/// A user, its groups, and what it may do all the same.
#[derive(Debug)]
pub struct Credentials {
    /// User id.
    pub id: u32,
    /// Id of its own group.
    pub group: u32,
    /// Further groups; `None` where they cannot be set.
    pub groups: Option<Vec<u32>>,
    /// Capabilities that it keeps; `None`: all, as root has them.
    pub capabilities: Option<u64>,
}

/// What was tried and failed.
type Failure = (String, io::Error);

/// Becomes the program; returns the child's exit status where that fails.
pub fn run(plan: &Plan<'_>) -> u8 {
    if let Err((what, error)) = prepare(plan) {
        return give_up(plan, &what, &error);
    }
    // What ends it from here on ends its program.
    say(plan.report, 'X', "");
    let mut why = io::Error::from_raw_os_error(nix::libc::ENOENT);
    for (turn, program) in plan.programs.iter().enumerate() {
        if turn > 0 && program.as_bytes() == paths::PROC_SELF_EXE.as_bytes() {
            tell(
                plan,
                'W',
                &format!("run {}: {why}: init stands in", plan.name),
            );
        }
        let Err(errno) = execve(program, &plan.arguments, &plan.environment);
        // A program that is there and does not start says more than one that is not there.
        if why.kind() == io::ErrorKind::NotFound {
            why = reason(program, errno.into());
        }
    }
    give_up(plan, &format!("run {}", plan.name), &why)
}

/// The kernel says "not found" also of the program that a script's first line or an executable's header names.
fn reason(program: &CStr, error: io::Error) -> io::Error {
    let path = Path::new(OsStr::from_bytes(program.to_bytes()));
    if error.kind() == io::ErrorKind::NotFound && path.exists() {
        io::Error::other("it is there, but the interpreter or loader that it names is not")
    } else {
        error
    }
}

fn give_up(plan: &Plan<'_>, what: &str, error: &io::Error) -> u8 {
    refuse(plan.report, &format!("{what}: {error}"))
}

/// Reports what ended the start; returns the child's exit status.
pub fn refuse(report: BorrowedFd<'_>, why: &str) -> u8 {
    say(report, 'F', why);
    NOT_STARTED
}

fn tell(plan: &Plan<'_>, kind: char, text: &str) {
    say(plan.report, kind, text);
}

/// A line of the report: `X` for a child that is ready to become its program, `F` for what ended the start, `U` for a
/// fence that is not to be had, `G` for its control group, `W` for other troubles.
fn say(report: BorrowedFd<'_>, kind: char, text: &str) {
    // Nobody is left to tell that telling failed.
    let _ = write(
        report,
        format!("{kind}{}\n", text.replace('\n', " ")).as_bytes(),
    );
}

fn prepare(plan: &Plan<'_>) -> Result<(), Failure> {
    process::reset_signal_actions(plan.ignored_signals);
    tried("unblock signals", SigSet::all().thread_unblock())?;
    tried("make a session", setsid())?;
    if let Some(nice) = plan.nice
        && let Err(error) = process::set_nice(nice)
    {
        tell(plan, 'U', &format!("nice value {nice} ({error})"));
    }
    tried("set input", dup2_stdin(plan.stdin))?;
    set_output(plan)?;
    if let Some(extra) = plan.extra {
        process::duplicate_to(extra, 3).map_err(|error| ("set descriptor 3".to_owned(), error))?;
    }
    if let Some(procs) = &plan.join {
        let joined = fs::OpenOptions::new().write(true).open(procs);
        let joined = joined.and_then(|file| Ok(write(file, b"0")?));
        if let Err(error) = joined {
            tell(plan, 'G', &format!("join {}: {error}", procs.display()));
        }
    }
    if let Some((soft, hard)) = plan.open_files {
        tried(
            "limit open files",
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard),
        )?;
    }
    limit_process(plan);
    let home = plan.home.as_ref().filter(|home| make_home(home).is_ok());
    if let Some((folders, owner)) = plan.own_folders {
        for path in folders {
            if let Err(why) = make_own(path, owner)
                && plan.tells
            {
                tell(plan, 'W', &format!("writable {}: {why}", path.display()));
            }
        }
    }
    if let Err((fence, error)) = plan.fences.raise_view() {
        tell(plan, 'U', &format!("{fence} ({error})"));
    }
    if plan.fences.no_new_privileges {
        tried("give up new privileges", prctl::set_no_new_privs())?;
    }
    if let Err(error) = plan.fences.raise_landlock() {
        tell(plan, 'U', &format!("landlock ({error})"));
    }
    if let Some(credentials) = &plan.become_user {
        become_user(credentials)?;
    }
    enter(plan, home)?;
    if let Err(error) = plan.fences.raise_filter() {
        tell(plan, 'U', &format!("seccomp ({error})"));
    }
    Ok(())
}

fn set_output(plan: &Plan<'_>) -> Result<(), Failure> {
    if let Some(credentials) = &plan.become_user {
        for output in [plan.stdout, plan.stderr] {
            let_reopen(output, credentials.id);
        }
    }
    match plan.stdout {
        Output::Plain(fd) => tried("set output", dup2_stdout(fd))?,
        Output::Both(fd) => tried("set output", dup2_stdout(for_writing(fd)?))?,
    }
    match plan.stderr {
        Output::Plain(fd) => tried("set errors", dup2_stderr(fd)),
        Output::Both(fd) => tried("set errors", dup2_stderr(for_writing(fd)?)),
    }
}

/// `/dev/stdout` and `/dev/stderr` open the pipe anew, which is for its owner only.
///
/// Its group stays ours and may do so too: root without `CAP_DAC_OVERRIDE` opens it for the next run.
fn let_reopen(output: Output<'_>, user: u32) {
    if let Output::Both(fd) = output {
        // Who may not, writes to the descriptor that it has, as before.
        let _ = fchmod(fd, FileMode::from_bits_truncate(0o660));
        let _ = fchown(fd, Some(Uid::from_raw(user)), None);
    }
}

fn for_writing(fd: BorrowedFd<'_>) -> Result<fs::File, Failure> {
    let path = Path::new(paths::PROC_SELF_FD).join(fd.as_raw_fd().to_string());
    let opened = fs::OpenOptions::new().write(true).open(path);
    opened.map_err(|error| ("open the pipe to the log".to_owned(), error))
}

/// A limit above what init itself may have is root's to set: who is not root runs with the old one, and it is told.
fn limit_process(plan: &Plan<'_>) {
    let limits = plan.process_limits;
    let wanted = [
        (Resource::RLIMIT_NOFILE, "open-files-max", limits.open_files),
        (Resource::RLIMIT_CORE, "core-max", limits.core),
        (
            Resource::RLIMIT_NPROC,
            "tasks-max",
            plan.tasks.map(u64::from),
        ),
    ];
    for (resource, key, value) in wanted {
        if let Some(value) = value
            && let Err(errno) = setrlimit(resource, value, value)
        {
            tell(plan, 'U', &format!("{key} ({})", io::Error::from(errno)));
        }
    }
}

fn tried<T>(what: &str, result: nix::Result<T>) -> Result<T, Failure> {
    result.map_err(|errno| (what.to_owned(), errno.into()))
}

fn enter(plan: &Plan<'_>, home: Option<&Home>) -> Result<(), Failure> {
    if let Some(directory) = &plan.directory {
        return tried(
            &format!("enter {}", directory.display()),
            chdir(directory.as_path()),
        );
    }
    // A read-only or absent disk is no reason to stay down: gokrazy starts in the root then, and so do we.
    if home.is_some_and(|home| chdir(home.path.as_path()).is_ok()) {
        return Ok(());
    }
    tried("enter /", chdir("/"))
}

fn make_home(home: &Home) -> io::Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(&home.path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = home.path.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().mode(0o755).create(above)?;
            fs::DirBuilder::new().mode(0o700).create(&home.path)?;
            own(home)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => own(home),
    }
}

fn own(home: &Home) -> io::Result<()> {
    fs::set_permissions(&home.path, fs::Permissions::from_mode(0o700))?;
    chown(&home.path, Some(home.owner), Some(home.owner))
}

fn become_user(credentials: &Credentials) -> Result<(), Failure> {
    let (user, group) = (
        Uid::from_raw(credentials.id),
        Gid::from_raw(credentials.group),
    );
    if let Some(groups) = &credentials.groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        tried("set groups", setgroups(&groups))?;
    }
    tried("set group", setresgid(group, group, group))?;
    let Some(kept) = credentials.capabilities else {
        return tried("set user", setresuid(user, user, user));
    };
    for number in 0..64 {
        // The kernel refuses numbers that it does not know; those cannot be gained either.
        if kept & (1 << number) == 0 && capability::drop_from_bounding_set(number).is_err() {
            break;
        }
    }
    tried("keep capabilities", prctl::set_keepcaps(true))?;
    tried("set user", setresuid(user, user, user))?;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| (what, error)
    };
    capability::set(kept).map_err(failed("set capabilities"))?;
    for number in capabilities::numbers(kept) {
        capability::raise_ambient(number).map_err(failed("hand capabilities on"))?;
    }
    Ok(())
}
