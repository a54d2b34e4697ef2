//! The command lines of `init` and `logd`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gokrazy_core::control::End;
use gokrazy_core::log_record::Stream;
use gokrazy_core::{exit, paths};
use gokrazy_sys::passing;

use crate::ctl::{self, CtlArgs};
use crate::logd::keeper::Folders;
use crate::logd::serve::Server;
use crate::runtime::keeper;
use crate::runtime::options::{Mode, Options};
use crate::runtime::panic;
use crate::service::{is_name, values};
use crate::syslog::{self, target::Target};
use crate::{machine, supervise_with};

/// PID 1 of a gokrazy device, and a supervisor for containers and namespaces.
///
/// As the machine's PID 1 it takes no arguments.
#[derive(Debug, Parser)]
#[command(name = "init", version, args_conflicts_with_subcommands = true)]
struct InitArgs {
    /// Supervise only: mount nothing, and exit at the end instead of rebooting.
    #[arg(long)]
    no_boot: bool,
    /// File of `[[service]]` tables, or folder of such files ending in `.toml`.
    #[arg(long, value_name = "FILE-OR-DIR", default_value = paths::SERVICES_TOML)]
    services: PathBuf,
    /// Folder of sockets, state files and logs.
    #[arg(long, value_name = "DIR", default_value = paths::RUN)]
    run_dir: PathBuf,
    /// Folder of the services' homes.
    #[arg(long, value_name = "DIR", default_value = paths::PERM_HOME)]
    home_dir: PathBuf,
    /// The program that keeps the logs; by default init itself under the name `logd`.
    #[arg(long, value_name = "PROGRAM")]
    logd: Option<PathBuf>,
    /// How long a shutdown may take before what still runs is killed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    shutdown_timeout: Duration,
    /// Also mount the disks that `[[mount]]` tables name.
    #[arg(long)]
    mounts: bool,
    /// Name whose look-up means `net-online`.
    #[arg(long, value_name = "NAME", default_value = Options::ONLINE_NAME)]
    online_name: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a running init.
    Ctl(CtlArgs),
}

/// `init`: boots and supervises, only supervises, or asks a running init.
pub fn init() -> ExitCode {
    if keeper::is_wanted() {
        return logd();
    }
    // The kernel hands over what it did not understand of its command line; none of it is for us.
    let as_machine = std::process::id() == 1
        && !std::env::args_os().any(|word| word == "--no-boot" || word == "ctl");
    let args = if as_machine && !asks_for_help() {
        InitArgs::parse_from(["init"])
    } else {
        InitArgs::parse()
    };
    match &args.command {
        Some(Command::Ctl(ctl)) => ask(ctl),
        None if args.no_boot => guest(&args),
        None if as_machine => machine::run(args.options(Mode::Machine), &args.services),
        None => {
            eprintln!(
                "init: not PID 1: use --no-boot to supervise services, or `init ctl` to ask a running init"
            );
            ExitCode::from(exit::USAGE)
        }
    }
}

fn asks_for_help() -> bool {
    std::env::args_os().any(|word| word == "--help" || word == "-h" || word == "--version")
}

fn ask(args: &CtlArgs) -> ExitCode {
    match ctl::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init ctl: {error}");
            if args.wants_json() {
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stdout(), "{}", error.json());
            }
            ExitCode::from(error.code())
        }
    }
}

fn guest(args: &InitArgs) -> ExitCode {
    if let Err(error) = std::fs::metadata(&args.services) {
        eprintln!(
            "init: read {}: {error}; name the services with --services",
            args.services.display()
        );
        return ExitCode::from(exit::USAGE);
    }
    panic::survive();
    match supervise_with(args.options(Mode::Guest), &args.services) {
        Ok(End::Reboot | End::PowerOff | End::Halt) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {}", error.with_cause());
            ExitCode::from(exit::FAILURE)
        }
    }
}

impl InitArgs {
    fn options(&self, mode: Mode) -> Options {
        Options {
            mode,
            run_dir: self.run_dir.clone(),
            services: Some(self.services.clone()),
            home_dir: self.home_dir.clone(),
            logd: self.logd.clone(),
            shutdown_limit: self.shutdown_timeout,
            online_name: self.online_name.clone(),
            mounts: self.mounts,
        }
    }
}

/// Keeps the output of services in bounded logs.
///
/// Init starts it and hands it the pipes; alone, it keeps its standard input.
#[derive(Debug, Parser)]
#[command(name = "logd", version)]
struct LogdArgs {
    /// Folder of the logs, one folder each.
    #[arg(long, value_name = "DIR", default_value_os_t = PathBuf::from(paths::RUN).join(paths::LOG_DIR))]
    log_dir: PathBuf,
    /// Folder of the logs that outlive a boot, for services that ask for it.
    #[arg(long, value_name = "DIR")]
    persistent_dir: Option<PathBuf>,
    /// Descriptor of the socket on which init hands over pipes; without it, standard input is kept.
    #[arg(long, value_name = "NUMBER")]
    socket_fd: Option<i32>,
    /// Name of the log of standard input.
    #[arg(long, default_value = "stdin", conflicts_with = "socket_fd")]
    name: String,
    /// Bytes kept of standard input.
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = values::size, conflicts_with = "socket_fd")]
    max: u64,
    /// Keep nothing: send what is kept to a syslog collector, `[udp://|tcp://]HOST[:PORT]`.
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["socket_fd", "persistent_dir", "name", "max"])]
    forward: Option<Target>,
}

/// `logd`: keeps output.
pub fn logd() -> ExitCode {
    // Where it is init's own program, the kernel has named the process after that.
    let _ = nix::sys::prctl::set_name(c"logd");
    let args = LogdArgs::parse();
    if let Some(target) = args.forward {
        let _ = nix::sys::prctl::set_name(c"syslog");
        return ended("syslog", syslog::forward::run(&args.log_dir, target));
    }
    if !is_name(&args.name) {
        eprintln!(
            "logd: --name {}: letters, digits, `.`, `_` and `-`",
            args.name
        );
        return ExitCode::from(exit::USAGE);
    }
    ended("logd", keep(&args))
}

fn ended(name: &str, result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn keep(args: &LogdArgs) -> std::io::Result<()> {
    let folders = Folders {
        volatile: args.log_dir.as_path().into(),
        persistent: args.persistent_dir.as_deref().map(Into::into),
    };
    let init = args.socket_fd.map(passing::inherited).transpose()?;
    let alone = init.is_none();
    let mut server = Server::new(folders, init)?;
    if alone {
        use std::os::fd::AsFd;
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        server.add(&args.name, Stream::Out, input, (args.max, 0))?;
    }
    server.run();
    Ok(())
}
