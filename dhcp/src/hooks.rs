//! The command of `--on-change`: one at a time, in order, with checked values in its environment.
//!
//! A value from the network is never part of the command's text, and has passed `names` or is a number or an address.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gokrazy_core::keyvalue::Document;
use gokrazy_core::lease::Lease;
use gokrazy_sys::process::unblock_signals;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::log::Log;
use crate::moment::Moment;

/// Changes that wait for a slow command; of more, the oldest is dropped.
const QUEUE: usize = 16;

/// How long one run may take; then it is killed with all that it started, so that later changes are told.
const LIMIT: Duration = Duration::from_secs(30);

/// A change to tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The interface.
    pub interface: String,
    /// What happened: `bound`, `renewed`, `expired`, and the like.
    pub reason: &'static str,
    /// What is configured now, if anything.
    pub lease: Option<Lease>,
}

/// The command, and what waits for it.
#[derive(Debug)]
pub struct Hooks {
    command: Option<String>,
    running: Option<Run>,
    waiting: VecDeque<Change>,
}

/// The command while it runs.
#[derive(Debug)]
struct Run {
    child: Child,
    interface: String,
    until: Moment,
}

impl Hooks {
    /// Runs `command`, if there is one.
    pub fn new(command: Option<String>) -> Self {
        Self {
            command,
            running: None,
            waiting: VecDeque::new(),
        }
    }

    /// Tells of a change, now or once the command is done with those before.
    pub fn tell(&mut self, change: Change, now: Moment, log: Log) {
        if self.command.is_none() {
            return;
        }
        // What has changed again before it was told is told once.
        let mut waiting = self.waiting.iter_mut().rev();
        let last = waiting.find(|last| last.interface == change.interface);
        if let Some(last) = last.filter(|last| last.reason == change.reason) {
            *last = change;
            return;
        }
        if self.waiting.len() >= QUEUE {
            let dropped = self.waiting.pop_front();
            let who = dropped.map(|change| change.interface).unwrap_or_default();
            log.event(&who, "--on-change is too slow; a change is not told");
        }
        self.waiting.push_back(change);
        self.turn(now, log);
    }

    /// When [`Hooks::turn`] is due even if no child ends.
    pub fn deadline(&self) -> Option<Moment> {
        self.running.as_ref().map(|run| run.until)
    }

    /// A child has ended, or time is up: reaps the command, and starts it again if changes wait.
    pub fn turn(&mut self, now: Moment, log: Log) {
        if let Some(run) = &mut self.running {
            match run.child.try_wait() {
                Ok(None) if run.until <= now => {
                    let limit = LIMIT.as_secs();
                    let line = format!("--on-change takes more than {limit} s; killed");
                    log.event(&run.interface, line);
                    // Its end is told like any other; should that be lost, it is looked for again.
                    kill(&run.child);
                    run.until = now.after(LIMIT);
                    return;
                }
                Ok(None) => return,
                Ok(Some(status)) if !status.success() => {
                    log.detail("dhcp", format!("--on-change: {status}"))
                }
                Ok(Some(_)) | Err(_) => {}
            }
            self.running = None;
        }
        if let (Some(command), Some(change)) = (&self.command, self.waiting.pop_front()) {
            match start(command, &change) {
                Ok(child) => {
                    self.running = Some(Run {
                        child,
                        interface: change.interface,
                        until: now.after(LIMIT),
                    });
                }
                Err(error) => log.event(&change.interface, format!("run {command:?}: {error}")),
            }
        }
    }

    /// Ends what still runs, and forgets what waits.
    pub fn give_up(&mut self, log: Log) {
        if let Some(run) = self.running.take() {
            log.event(&run.interface, "--on-change does not end; killed");
            kill(&run.child);
        }
        self.waiting.clear();
    }

    /// Whether all changes have been told.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }
}

fn start(text: &str, change: &Change) -> std::io::Result<Child> {
    let mut command = command(text);
    command.args([change.reason, change.interface.as_str()]);
    if let Some(lease) = &change.lease {
        let document = Document::parse(&lease.render()).unwrap_or_default();
        command.envs(document.iter());
    }
    // Ours are blocked, since we read them from a descriptor; a command that inherits that cannot be interrupted.
    unblock_signals(&mut command);
    command
        .env("interface", &change.interface)
        .env("reason", change.reason)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Kills a run with all that it started: it leads a process group of its own.
fn kill(child: &Child) {
    // It fails only if all of them are gone.
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// A plain path is run as it is, since a small system has no shell; anything else is a shell's.
fn command(text: &str) -> Command {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if text.chars().all(plain) && Path::new(text).is_absolute() {
        return Command::new(text);
    }
    let mut shell = Command::new("sh");
    // What follows the text is `$0`, then the arguments proper.
    shell.arg("-c").arg(text).arg("dhcp");
    shell
}
