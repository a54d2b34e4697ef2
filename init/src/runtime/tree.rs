//! All processes of a service: whether any lives, and killing them.
//!
//! By its control group where it has one.
//! Elsewhere by its process group and session, and by the mark [`MARK`] in the environment of those that left both:
//! orphans come to us, since we are PID 1 or a subreaper.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use gokrazy_core::paths;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::cgroup::Group;

/// The variable that carries the service's name to all that it starts.
pub const MARK: &str = "GOKRAZY_SERVICE";

/// So often those are looked for that were made while others were killed.
const KILLS: u32 = 16;

/// What is known of the processes of a service.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// The service.
    pub name: &'a str,
    /// Its main process, alive or not: also the number of its process group.
    pub main: u32,
    /// Its control group.
    pub group: Option<&'a Group>,
}

impl Tree<'_> {
    /// Whether a process of it lives, the main process aside if it has been waited for.
    pub fn lives(&self) -> bool {
        match self.group.and_then(Group::is_populated) {
            Some(populated) => populated,
            None => self.in_process_group() || !self.marked().is_empty(),
        }
    }

    /// Kills every process of it.
    pub fn kill(&self) {
        if let Some(group) = self.group
            && group.kill().is_ok()
        {
            return;
        }
        let mut killed = HashSet::new();
        for _ in 0..KILLS {
            let marked = self.marked();
            // A group that is gone needs no signal.
            let _ = self.signal_group(Signal::SIGKILL as i32);
            let before = killed.len();
            for pid in marked {
                let _ = kill(pid, Signal::SIGKILL);
                killed.insert(pid);
            }
            // Who was killed has no more children.
            if killed.len() == before {
                break;
            }
        }
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// `ESRCH` if there is no such group, or not yet.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        gokrazy_sys::process::signal_group(self.main, signal)
    }

    /// Sends a signal to those of its processes that left its process group.
    pub fn signal_strays(&self, signal: i32) {
        let all = match self.group.map(Group::members) {
            Some(members) if !members.is_empty() => members.into_iter().filter_map(pid).collect(),
            _ => self.marked(),
        };
        let main = pid(self.main);
        for stray in all {
            if getpgid(Some(stray)).ok() != main {
                // One that is gone by now needs no signal.
                let _ = gokrazy_sys::process::signal_process(stray.as_raw().unsigned_abs(), signal);
            }
        }
    }

    fn in_process_group(&self) -> bool {
        pid(self.main).is_some_and(|group| killpg(group, None).is_ok())
    }

    /// Processes that descend from the main process, or carry its mark and came to us as orphans.
    fn marked(&self) -> Vec<Pid> {
        let parents = parents();
        let us = std::process::id();
        let mark = format!("{MARK}={}", self.name);
        let is_ours = |&(&child, &parent): &(&u32, &u32)| {
            child != self.main && (parent == self.main || (parent == us && carries(child, &mark)))
        };
        let mut found: Vec<u32> = parents
            .iter()
            .filter(is_ours)
            .map(|(&child, _)| child)
            .collect();
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            let children = parents.iter().filter(|(_, above)| **above == parent);
            let new: Vec<u32> = children
                .map(|(&child, _)| child)
                .filter(|child| !found.contains(child))
                .collect();
            found.extend(new);
            next = next.saturating_add(1);
        }
        found.into_iter().filter_map(pid).collect()
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number)
        .ok()
        .filter(|number| *number > 1)
        .map(Pid::from_raw)
}

/// The parent of each process that is not dead, by `/proc/<pid>/stat` (`proc_pid_stat(5)`).
fn parents() -> HashMap<u32, u32> {
    let folder = fs::read_dir(paths::PROC).into_iter().flatten().flatten();
    let numbers = folder.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter_map(|child| Some((child, living_parent(child)?)))
        .collect()
}

fn living_parent(child: u32) -> Option<u32> {
    let stat =
        fs::read_to_string(Path::new(paths::PROC).join(child.to_string()).join("stat")).ok()?;
    // The name in brackets may hold anything, so fields are counted from its end.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

fn carries(child: u32, mark: &str) -> bool {
    let path = Path::new(paths::PROC)
        .join(child.to_string())
        .join("environ");
    let environment = fs::read(path).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == mark.as_bytes())
}
