//! Disks that tables name: guards at the start, children that mount, and what came of them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::hotplug::Hotplug;
use gokrazy_core::mount_status::MountStatus;
use gokrazy_core::paths;
use gokrazy_core::uevent::Uevent;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};

use super::clock;
use super::event_loop::Runtime;
use super::helper;
use super::options::Mode;
use super::publish;
use crate::mount::child;
use crate::mount::disk::{Arrivals, Attempt, Disk, Outcome};
use crate::mount::{Mount, points};
use crate::service::table::PlacedMount;
use crate::supervise::Moment;

/// Longest report of a child, in bytes; a pipe takes it whole (`PIPE_BUF`).
const REPORT_MAX: usize = 4096;

/// A disk, and the child that looks for it.
#[derive(Debug)]
pub(super) struct Watched {
    mount: Mount,
    disk: Disk,
    child: Option<(u32, OwnedFd)>,
}

impl Watched {
    fn status(&self) -> MountStatus {
        let (state, why) = self.disk.state();
        MountStatus {
            target: self.mount.target.clone(),
            source: self.mount.source.to_string(),
            state,
            device: self
                .disk
                .node()
                .map(|node| Path::new(paths::DEV).join(node)),
            why: why.map(str::to_owned),
        }
    }
}

/// When one of them wants to be looked for.
pub(super) fn deadline(watched: &[Watched]) -> Option<Moment> {
    watched.iter().filter_map(|one| one.disk.deadline()).min()
}

impl Runtime {
    /// Puts guards up, before the first service can write underneath.
    pub(super) fn guard_mounts(&mut self) {
        let table = fs::read_to_string(paths::PROC_MOUNTINFO).unwrap_or_default();
        let arrivals = match self.devices.hotplug {
            Some(_) => Arrivals::Announced,
            None => Arrivals::Silent,
        };
        for mount in std::mem::take(&mut self.devices.mounts) {
            let target = &mount.target;
            // A fresh init after a bug finds what the one before has done.
            let is_guarded = points::is_guarded(&table, target);
            let mounted = points::source_at(&table, target).filter(|_| is_guarded);
            let node = mounted.map(|source| node_name(&source));
            if !is_guarded && let Err(why) = child::guard(target) {
                self.journal.warn(why);
            }
            self.mounts.push(Watched {
                disk: Disk::new(arrivals, node),
                mount,
                child: None,
            });
            self.publish_mount(self.mounts.len().saturating_sub(1));
        }
    }

    /// Starts the attempts that are due.
    pub(super) fn look_after_mounts(&mut self, now: Moment) {
        for index in 0..self.mounts.len() {
            let attempt = self
                .mounts
                .get_mut(index)
                .and_then(|one| one.disk.attempt(now));
            if let Some(attempt) = attempt
                && let Err(error) = self.start_attempt(index, attempt)
            {
                let why = format!("make a process that mounts it: {error}");
                self.on_outcome(index, Outcome::Failed(why));
            }
        }
    }

    fn start_attempt(&mut self, index: usize, attempt: Attempt) -> io::Result<()> {
        let modules = self.devices.hotplug.as_ref().and_then(Hotplug::modules);
        let Some(one) = self.mounts.get_mut(index) else {
            return Ok(());
        };
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let pid = helper::fork(|| {
            if attempt == Attempt::AfterDetach {
                // What is not mounted any more needs no more.
                let _ = child::detach(&one.mount.target);
            }
            let report = encode(&child::attempt(&one.mount, modules));
            let end = report.len().min(REPORT_MAX);
            // Nobody is left to tell that telling failed.
            let _ = write(
                writer.as_fd(),
                report.as_bytes().get(..end).unwrap_or_default(),
            );
            0
        })?;
        one.child = Some((pid, reader));
        Ok(())
    }

    /// Takes in that a child ended, one of ours perhaps; says whether it was.
    pub(super) fn on_mount_exit(&mut self, pid: u32) -> bool {
        let found = (0..)
            .zip(&mut self.mounts)
            .find(|(_, one)| one.child.as_ref().is_some_and(|(own, _)| *own == pid));
        let Some((index, one)) = found else {
            return false;
        };
        let mut buffer = [0; REPORT_MAX];
        let length = one
            .child
            .take()
            .and_then(|(_, report)| read(report, &mut buffer).ok())
            .unwrap_or_default();
        let outcome = decode(&String::from_utf8_lossy(
            buffer.get(..length).unwrap_or_default(),
        ));
        self.on_outcome(index, outcome);
        true
    }

    fn on_outcome(&mut self, index: usize, outcome: Outcome) {
        let now = clock::boot();
        let Some(one) = self.mounts.get_mut(index) else {
            return;
        };
        let failed = matches!(outcome, Outcome::Failed(_));
        if let Some(line) = one.disk.on_outcome(outcome, now) {
            let line = format!(
                "{} ({}): {line}",
                one.mount.target.display(),
                one.mount.source
            );
            match failed {
                true => self.journal.warn(line),
                false => self.journal.info(line),
            }
        }
        self.publish_mount(index);
        // Whoever waits for it need not wait for the next look.
        self.conditions.hurry(now);
    }

    /// Takes in what devices came and went.
    pub(super) fn on_disks(&mut self, events: &[Uevent]) {
        for event in events {
            if event.is_loss() {
                self.on_lost_disks();
            } else if event.subsystem == "block" {
                let gone = event.node.as_deref().filter(|_| event.action == "remove");
                self.on_disk(gone);
            }
        }
    }

    /// Announcements were lost: what may have come is looked for, and what is gone is gone.
    fn on_lost_disks(&mut self) {
        let mounted = self.mounts.iter().filter_map(|one| one.disk.node());
        let is_gone = |node: &&str| !Path::new(paths::SYS_CLASS_BLOCK).join(node).exists();
        let gone: Vec<String> = mounted.filter(is_gone).map(str::to_owned).collect();
        for node in gone {
            self.on_disk(Some(&node));
        }
        self.on_disk(None);
    }

    /// A disk came, or the one of that node went.
    fn on_disk(&mut self, gone: Option<&str>) {
        let now = clock::boot();
        for index in 0..self.mounts.len() {
            let Some(one) = self.mounts.get_mut(index) else {
                return;
            };
            match gone {
                None => one.disk.on_arrival(now),
                Some(node) if one.disk.on_departure(node, now) => {
                    self.journal.warn(format_args!(
                        "{} ({}): its disk /dev/{node} is gone",
                        one.mount.target.display(),
                        one.mount.source
                    ));
                    self.publish_mount(index);
                }
                Some(_) => {}
            }
        }
    }

    /// Brings the file up to date that says of a disk whether it is mounted.
    fn publish_mount(&mut self, index: usize) {
        let Some(one) = self.mounts.get(index) else {
            return;
        };
        let folder = self.options.run_dir.join(paths::MOUNT_DIR);
        let text = one.status().render();
        let put = || {
            atomic::replace(
                &folder.join(index.to_string()),
                text.as_bytes(),
                0o644,
                Durability::Volatile,
            )
        };
        let made = publish::folder(&folder, 0o755);
        if let Err(error) = put() {
            let why = match &made {
                Err(why) => why,
                Ok(()) => error.io_error(),
            };
            self.journal.warn(format_args!("{error}: {why}"));
        }
    }

    /// Tables of mounts are read at the start only, which whoever has changed them should know.
    pub(super) fn compare_mounts(&mut self, found: &[PlacedMount]) {
        if self.options.mode == Mode::Guest && !self.options.mounts {
            return;
        }
        let known = self.mounts.iter().map(|one| &one.mount);
        if !known.eq(found.iter().map(|placed| &placed.mount)) {
            self.journal.warn(
                "tables of [[mount]] have changed: they are heeded at the next start of init",
            );
        }
    }
}

fn node_name(source: &str) -> String {
    let path = Path::new(source);
    path.strip_prefix(paths::DEV)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn encode(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Mounted(node) => format!("M{node}"),
        Outcome::Absent => "A".to_owned(),
        Outcome::Failed(why) => format!("F{why}"),
    }
}

fn decode(report: &str) -> Outcome {
    match (report.get(..1), report.get(1..)) {
        (Some("M"), Some(node)) => Outcome::Mounted(node.to_owned()),
        (Some("A"), _) => Outcome::Absent,
        (Some("F"), Some(why)) => Outcome::Failed(why.to_owned()),
        _ => Outcome::Failed("the process that mounts it was killed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        for outcome in [
            Outcome::Mounted("sda1".to_owned()),
            Outcome::Absent,
            Outcome::Failed("sda1: ä".to_owned()),
        ] {
            assert_eq!(decode(&encode(&outcome)), outcome);
        }
        assert!(matches!(decode(""), Outcome::Failed(_)));
    }
}
