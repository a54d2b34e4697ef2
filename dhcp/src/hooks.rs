//! The command of `--on-change`: one at a time, in order, with checked values in its environment.
//!
//! A value from the network is never part of the command's text, and has passed `names` or is a number or an address.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gokrazy_core::keyvalue::Document;
use gokrazy_core::lease::Lease;

use crate::log::Log;

/// Changes that wait for a slow command; of more, the oldest is dropped.
const QUEUE: usize = 16;

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
    running: Option<Child>,
    waiting: VecDeque<Change>,
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
    pub fn tell(&mut self, change: Change, log: Log) {
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
        self.turn(log);
    }

    /// A child has ended: reaps the command, and starts it again if changes wait.
    pub fn turn(&mut self, log: Log) {
        if let Some(child) = &mut self.running {
            match child.try_wait() {
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
                Ok(child) => self.running = Some(child),
                Err(error) => log.event(&change.interface, format!("run {command:?}: {error}")),
            }
        }
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
    command
        .env("interface", &change.interface)
        .env("reason", change.reason)
        .stdin(Stdio::null())
        .spawn()
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
