//! Whether clock, route, name service and mounts are there; asked only while a service waits for them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gokrazy_core::{paths, wait_for};

use super::helper;
use crate::mount::points;
use crate::service::condition::Condition;
use crate::supervise::Moment;

/// How often an awaited condition is looked at in the first seconds, in which most come to hold.
const PERIOD: Duration = Duration::from_millis(250);

/// How often it is looked at later: a device without a network may wait for ever, and should rest meanwhile.
const SLOW_PERIOD: Duration = Duration::from_secs(2);

/// When the first seconds are over.
const FIRST_SECONDS: Duration = Duration::from_secs(20);

/// Looks at the machine's conditions.
#[derive(Debug, Default)]
pub struct Conditions {
    next_look: Option<Moment>,
    awaited_since: Option<Moment>,
    next_lookup: Moment,
    /// Children that look up a name, which may take long.
    lookups: HashSet<u32>,
    online: bool,
}

impl Conditions {
    /// When [`Conditions::look`] is due, if anything is awaited.
    pub fn deadline(&self) -> Option<Moment> {
        self.next_look
    }

    /// Brings the next look forward, if anything is awaited.
    pub fn hurry(&mut self, now: Moment) {
        self.next_look = self.next_look.map(|_| now);
    }

    /// Looks whether the awaited conditions hold; returns those that do.
    pub fn look(
        &mut self,
        awaited: &HashSet<Condition>,
        run_dir: &Path,
        online_name: &str,
        now: Moment,
    ) -> Vec<Condition> {
        self.awaited_since = (!awaited.is_empty()).then(|| self.awaited_since.unwrap_or(now));
        self.next_look = self.awaited_since.map(|since| {
            let first = now.saturating_sub(since) < FIRST_SECONDS;
            now.saturating_add(if first { PERIOD } else { SLOW_PERIOD })
        });
        let mut holding = Vec::new();
        for condition in awaited {
            let holds = match condition {
                Condition::Clock => wait_for::holds(&wait_for::Condition::Clock, run_dir),
                Condition::NetRoute => wait_for::holds(&wait_for::Condition::NetRoute, run_dir),
                Condition::NetOnline => self.is_online(online_name, run_dir, now),
                Condition::Mount(path) => is_mounted(path),
                Condition::Service(_) => false,
            };
            if holds {
                holding.push(condition.clone());
            }
        }
        holding
    }

    fn is_online(&mut self, name: &str, run_dir: &Path, now: Moment) -> bool {
        if std::mem::take(&mut self.online) {
            return true;
        }
        if self.lookups.is_empty() && now >= self.next_lookup {
            // A look-up may wait for a server for many seconds, and PID 1 waits for nobody: a child does it.
            self.next_lookup = now.saturating_add(Duration::from_secs(1));
            let condition = wait_for::Condition::NetOnline(name.to_owned());
            let look_up = || u8::from(!wait_for::holds(&condition, run_dir));
            self.lookups.extend(helper::fork(look_up).ok());
        }
        false
    }

    /// Takes in that a child ended, one of ours perhaps.
    pub fn on_exit(&mut self, pid: u32, success: bool) {
        let ours = self.lookups.remove(&pid);
        self.online |= ours && success;
    }
}

fn is_mounted(target: &Path) -> bool {
    let table = fs::read_to_string(paths::PROC_MOUNTINFO).unwrap_or_default();
    points::source_at(&table, target).is_some()
}
