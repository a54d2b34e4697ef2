//! `init ctl`: what people and scripts ask of a running init.
//!
//! | module | what |
//! |---|---|
//! | [`client`] | a request over the control socket |
//! | [`states`] | the state files, and waiting for one to settle |
//! | [`show`] | states and records as text or JSON |
//! | [`logs`] | a service's log, kept and coming |
//! | [`presence`] | whether init is there still |
//!
//! Requests go to init; states and logs are read from files, so they are shown to whoever may read those.

pub mod client;
pub mod logs;
pub mod presence;
pub mod show;
pub mod states;

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use gokrazy_core::control::{End, Refusal, Request};
use gokrazy_core::paths;
use gokrazy_core::service_status::{ServiceStatus, State};

use crate::service::{is_name, values};

/// How `init ctl` ends beside 0; `docs/man/init.8.md` promises these numbers.
pub mod code {
    /// It was tried and did not work.
    pub const FAILED: u8 = 1;
    /// No init answers at that run folder.
    pub const NO_INIT: u8 = 3;
    /// There is no service of that name.
    pub const NO_SUCH_SERVICE: u8 = 4;
    /// This user may not ask for that.
    pub const NOT_PERMITTED: u8 = 5;
    /// Init is stopping all services.
    pub const SHUTTING_DOWN: u8 = 6;
    /// The service did not get there in time.
    pub const TIMEOUT: u8 = 7;
}

/// Asks a running init.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// Folder of init's sockets and state files.
    #[arg(long, value_name = "DIR", default_value = paths::RUN, global = true)]
    run_dir: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the state of one service or of all.
    Status {
        /// The service; all if absent.
        name: Option<String>,
    },
    /// Show which disks of `[[mount]]` tables are mounted.
    Mounts,
    /// Start a service and wait until it is ready.
    Start(Target),
    /// Stop a service and everything it started, and wait until they are gone.
    Stop(Target),
    /// Stop a service if it runs, start it and wait until it is ready.
    Restart(Target),
    /// Send a signal to a service's main process.
    Signal {
        /// The service.
        name: String,
        /// Name or number of the signal.
        signal: String,
    },
    /// Show a service's log; `init` and `kernel` have one too.
    Logs {
        /// The service.
        name: String,
        /// Show only the last so many lines.
        #[arg(long, short = 'n', value_name = "COUNT")]
        lines: Option<usize>,
        /// Go on with what is printed from now on.
        #[arg(long, short)]
        follow: bool,
    },
    /// Run another program in a service's place until the next boot.
    Divert {
        /// The service; made if there is none of that name.
        name: String,
        /// The program's path.
        program: String,
        /// Its arguments; behind `--` if one starts with a dash.
        arguments: Vec<String>,
    },
    /// Stop all services and boot anew.
    Reboot,
    /// Stop all services and switch the power off.
    Poweroff,
    /// Stop all services and halt with the power on.
    Halt,
}

#[derive(Debug, Args)]
struct Target {
    /// The service.
    name: String,
    /// Do not wait: succeed as soon as init has begun.
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so long.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::duration)]
    timeout: Duration,
}

/// Why `init ctl` fails.
#[derive(Debug)]
pub enum CtlError {
    /// Nobody listens, or the connection broke.
    NoInit(PathBuf, std::io::Error),
    /// Init turned the request down.
    Refused(String, Refusal),
    /// The service did not get where it was asked to.
    Ended(Box<ServiceStatus>),
    /// The service did not get there in time.
    Timeout(Box<ServiceStatus>),
    /// Something else failed.
    Other(String),
}

impl CtlArgs {
    /// Whether answers are to be JSON.
    pub fn wants_json(&self) -> bool {
        self.json
    }
}

impl CtlError {
    /// The error as one line of JSON: a word for its exit code, and the text for people.
    pub fn json(&self) -> String {
        let word = match self.code() {
            code::NO_INIT => "no-init",
            code::NO_SUCH_SERVICE => "no-such-service",
            code::NOT_PERMITTED => "not-permitted",
            code::SHUTTING_DOWN => "shutting-down",
            code::TIMEOUT => "timeout",
            _ => "failed",
        };
        serde_json::json!({ "result": word, "error": self.to_string() }).to_string()
    }

    /// The exit code that scripts tell it by.
    pub fn code(&self) -> u8 {
        match self {
            Self::NoInit(..) => code::NO_INIT,
            Self::Refused(_, Refusal::NoSuchService) => code::NO_SUCH_SERVICE,
            Self::Refused(_, Refusal::NotPermitted) => code::NOT_PERMITTED,
            Self::Refused(_, Refusal::ShuttingDown) => code::SHUTTING_DOWN,
            Self::Refused(_, Refusal::Malformed(_) | Refusal::Failed(_)) => code::FAILED,
            Self::Timeout(_) => code::TIMEOUT,
            Self::Ended(_) | Self::Other(_) => code::FAILED,
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInit(path, error) => {
                write!(
                    f,
                    "no init answers at {}: {error}; is --run-dir right?",
                    path.display()
                )
            }
            Self::Refused(what, refusal) => write!(f, "{what}: {refusal}"),
            Self::Ended(status) => {
                let why = status.last_exit.as_deref().unwrap_or("no reason known");
                write!(f, "{}: {} ({why})", status.name, status.state)
            }
            Self::Timeout(status) => write!(f, "{}: still {}", status.name, status.state),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CtlError {}

/// Does what the arguments ask.
///
/// # Errors
/// Why it was not done; [`CtlError::code`] is the exit code.
pub fn run(args: &CtlArgs) -> Result<(), CtlError> {
    match &args.verb {
        Verb::Status { name } => status(args, name.as_deref()),
        Verb::Mounts => mounts(args),
        Verb::Start(target) => ask_and_wait(args, target, |name| Request::Start { name }, is_up),
        Verb::Restart(target) => {
            ask_and_wait(args, target, |name| Request::Restart { name }, is_up)
        }
        Verb::Stop(target) => ask_and_wait(args, target, |name| Request::Stop { name }, is_down),
        Verb::Signal { name, signal } => {
            let (name, signal) = (name.clone(), signal.clone());
            ask(args, &name.clone(), &Request::Signal { name, signal })
        }
        Verb::Logs {
            name,
            lines,
            follow,
        } => {
            named(name)?;
            let wanted = logs::Wanted {
                lines: *lines,
                follow: *follow,
                json: args.json,
            };
            logs::run(&args.run_dir, name, &wanted)
        }
        Verb::Divert {
            name,
            program,
            arguments,
        } => {
            let (name, program, arguments) = (name.clone(), program.clone(), arguments.clone());
            ask(
                args,
                &name.clone(),
                &Request::Divert {
                    name,
                    program,
                    arguments,
                },
            )
        }
        Verb::Reboot => end(args, End::Reboot),
        Verb::Poweroff => end(args, End::PowerOff),
        Verb::Halt => end(args, End::Halt),
    }
}

fn end(args: &CtlArgs, how: End) -> Result<(), CtlError> {
    ask(args, how.as_str(), &Request::End { how })
}

fn named(name: &str) -> Result<(), CtlError> {
    if is_name(name) {
        Ok(())
    } else {
        Err(CtlError::Refused(name.to_owned(), Refusal::NoSuchService))
    }
}

fn status(args: &CtlArgs, name: Option<&str>) -> Result<(), CtlError> {
    client::connect(&args.run_dir)?;
    match name {
        None => {
            let all = states::all(&args.run_dir)?;
            let mounts = states::mounts(&args.run_dir);
            print(|out| {
                show::all(out, &all, args.json)?;
                match args.json {
                    true => Ok(()),
                    false => show::mounts(out, &mounts, false),
                }
            })
        }
        Some(name) => {
            named(name)?;
            let status = states::one(&args.run_dir, name)?;
            print(|out| show::one(out, &status, args.json))
        }
    }
}

fn mounts(args: &CtlArgs) -> Result<(), CtlError> {
    client::connect(&args.run_dir)?;
    let mounts = states::mounts(&args.run_dir);
    print(|out| show::mounts(out, &mounts, args.json))
}

/// Whoever reads us may have seen enough before the end; a full disk is told.
fn print(
    show: impl FnOnce(&mut BufWriter<StdoutLock<'_>>) -> io::Result<()>,
) -> Result<(), CtlError> {
    let mut out = BufWriter::new(io::stdout().lock());
    match show(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| CtlError::Other(format!("write the answer: {error}"))),
    }
}

fn ask(args: &CtlArgs, what: &str, request: &Request) -> Result<(), CtlError> {
    client::ask(&args.run_dir, what, request)?;
    if args.json {
        print(|out| show::done(out, what))?;
    }
    Ok(())
}

fn ask_and_wait(
    args: &CtlArgs,
    target: &Target,
    request: fn(String) -> Request,
    settled: fn(&ServiceStatus) -> states::Settled,
) -> Result<(), CtlError> {
    client::ask(&args.run_dir, &target.name, &request(target.name.clone()))?;
    let status = if target.no_wait {
        states::one(&args.run_dir, &target.name)?
    } else {
        states::wait(&args.run_dir, &target.name, target.timeout, settled)?
    };
    if args.json {
        print(|out| show::one(out, &status, true))?;
    }
    Ok(())
}

/// A service that waits for a condition has been started as far as it can be.
fn is_up(status: &ServiceStatus) -> states::Settled {
    match status.state {
        State::Running | State::Reloading | State::Finished | State::Waiting => {
            states::Settled::Well
        }
        State::Starting | State::Stopping => states::Settled::NotYet,
        State::Stopped | State::Restarting | State::CrashLoop => states::Settled::Badly,
    }
}

fn is_down(status: &ServiceStatus) -> states::Settled {
    match status.state {
        State::Stopped | State::Finished => states::Settled::Well,
        State::Stopping => states::Settled::NotYet,
        // Somebody else started it again; stopping was done all the same.
        State::Waiting
        | State::Starting
        | State::Running
        | State::Reloading
        | State::Restarting
        | State::CrashLoop => states::Settled::NotYet,
    }
}
