//! All processes of a service: whether any lives, and killing them.
//!
//! By its control group where it has one.
//! Elsewhere by its process group and session, and by the mark [`MARK`] in the environment of those that left both:
//! orphans come to us, since we are PID 1 or a subreaper.

use std::collections::{HashMap, HashSet};
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::cgroup::Group;
use super::kin::{self, Kin};

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
    /// Whether the main process has been waited for.
    pub main_is_gone: bool,
    /// Its control group.
    pub group: Option<&'a Group>,
    /// The main processes of all services, which are nobody's orphans.
    pub mains: &'a HashMap<u32, usize>,
}

impl Tree<'_> {
    /// Whether a process of it lives, the main process aside if it has been waited for.
    pub fn lives(&self) -> bool {
        match self.group.and_then(Group::is_populated) {
            Some(populated) => populated,
            None => {
                let orphans = || Kin::look().is_some_and(|kin| !self.orphans(&kin).is_empty());
                self.in_process_group() || orphans()
            }
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
    /// `ESRCH` if there is no such group, or not yet, or not any more.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.has_its_number() {
            gokrazy_sys::process::signal_group(self.main, signal)
        } else {
            Err(Errno::ESRCH.into())
        }
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
        let group = pid(self.main).filter(|_| self.has_its_number());
        group.is_some_and(|group| killpg(group, None).is_ok())
    }

    /// Whether a process group of that number is its own: the kernel gives no process the number of a group that is
    /// there, so a process that has it after the main one shows that the group is gone.
    fn has_its_number(&self) -> bool {
        let is_free = |main| kill(main, None) == Err(Errno::ESRCH);
        !self.main_is_gone || pid(self.main).is_none_or(is_free)
    }

    /// Processes that left its process group: what descends from the main process, and what came to us as orphans, with
    /// all that descends from those.
    fn marked(&self) -> Vec<Pid> {
        let Some(kin) = Kin::look() else {
            return Vec::new();
        };
        let mut first = self.orphans(&kin);
        if !self.main_is_gone {
            first.extend(kin.children(self.main));
        }
        kin.family(first).into_iter().filter_map(pid).collect()
    }

    /// Children of ours that are no service's main process and carry its mark.
    fn orphans(&self, kin: &Kin) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.name);
        let children = kin.children(std::process::id()).into_iter();
        children
            .filter(|child| !self.mains.contains_key(child) && kin::carries(*child, &mark))
            .collect()
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number)
        .ok()
        .filter(|number| *number > 1)
        .map(Pid::from_raw)
}
