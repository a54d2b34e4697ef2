//! The order of a shutdown: who is waited for stops after those who wait, applications before the page, the page
//! before our other daemons, the log keeper last; pure.

use std::time::Duration;

use super::Moment;
use super::machine::Machine;
use super::phase::{Action, Event, Phase};
use super::registry::{Entry, Order, Registry};
use crate::service::Role;

/// How long after the shutdown's deadline killed processes may take to vanish before they are given up.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// A shutdown that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shutdown {
    /// When [`Registry::enforce_shutdown`] is due.
    pub(super) deadline: Moment,
    killed: Killed,
}

/// Who has been killed for want of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// All have time still.
    Nobody,
    /// All but the log keeper, which hears their last words.
    Others,
    /// The log keeper too.
    All,
}

impl Registry {
    /// Stops everything; what still lives after `limit` is killed.
    pub fn begin_shutdown(&mut self, limit: Duration, now: Moment) -> Vec<Order> {
        if self.is_ending() {
            return Vec::new();
        }
        let deadline = now.saturating_add(limit);
        self.shutdown = Some(Shutdown {
            deadline,
            killed: Killed::Nobody,
        });
        let idle: Vec<usize> = self.where_entry(|entry| !lives(entry));
        for index in idle {
            // Nothing lives there, so no order can follow.
            let _ = self.step(index, Event::Stop, now);
        }
        self.advance_shutdown(now)
    }

    /// Whether a shutdown is over: no service has a process.
    pub fn has_ended(&self) -> bool {
        self.is_ending() && !self.entries.iter().any(lives)
    }

    pub(super) fn advance_shutdown(&mut self, now: Moment) -> Vec<Order> {
        let living = self.entries.iter().filter(|entry| lives(entry));
        let turn = living.map(|entry| entry.service.role).min();
        let mut ready =
            self.where_entry(|entry| Some(entry.service.role) == turn && self.may_stop(entry));
        let stops = |entry: &Entry| matches!(entry.machine.phase(), Phase::Stopping { .. });
        if ready.is_empty() && !self.entries.iter().any(stops) {
            // A circle that started before it was one: it has no first, so all go at once.
            ready = self.where_entry(lives);
        }
        ready
            .into_iter()
            .flat_map(|index| self.step(index, Event::Stop, now))
            .collect()
    }

    fn may_stop(&self, entry: &Entry) -> bool {
        let runs = matches!(
            entry.machine.phase(),
            Phase::Starting { .. } | Phase::Running { .. }
        );
        runs && !self.is_needed(entry)
    }

    fn is_needed(&self, needed: &Entry) -> bool {
        let dependents = self
            .dependents
            .get(&needed.service.name)
            .into_iter()
            .flatten();
        let mut dependents = dependents.filter_map(|&index| self.entries.get(index));
        dependents.any(lives)
    }

    pub(super) fn enforce_shutdown(&mut self, now: Moment) -> Vec<Order> {
        let Some(shutdown) = self.shutdown.filter(|shutdown| shutdown.deadline <= now) else {
            return Vec::new();
        };
        let others = self.where_entry(|entry| lives(entry) && !keeps_log(entry));
        let keeper = self.where_entry(|entry| lives(entry) && keeps_log(entry));
        match shutdown.killed {
            Killed::Nobody if !others.is_empty() => self.kill(&others, Killed::Others, now),
            // The kernel holds them.
            Killed::Others if !others.is_empty() => {
                self.give_up(&others, now);
                self.go_on_until(Killed::Others, now.saturating_add(LAST_GRACE));
                self.advance_shutdown(now)
            }
            Killed::Nobody | Killed::Others => {
                match self.patience_with(&keeper).filter(|until| now < *until) {
                    Some(until) => {
                        self.go_on_until(Killed::Others, until);
                        Vec::new()
                    }
                    None => self.kill(&keeper, Killed::All, now),
                }
            }
            Killed::All => {
                self.give_up(&others, now);
                self.give_up(&keeper, now);
                Vec::new()
            }
        }
    }

    /// Until when the log keeper, told to stop when the others were gone, may write down what they said.
    fn patience_with(&self, keeper: &[usize]) -> Option<Moment> {
        let keeper = keeper.first().and_then(|index| self.entries.get(*index));
        keeper.map(|entry| entry.machine.entered().saturating_add(LAST_GRACE))
    }

    fn kill(&mut self, which: &[usize], killed: Killed, now: Moment) -> Vec<Order> {
        self.go_on_until(killed, now.saturating_add(LAST_GRACE));
        let mut orders = Vec::new();
        for &index in which {
            // The signal that stopping would send is overtaken by the kill.
            let _ = self.step(index, Event::Stop, now);
            let action = Action::KillTree;
            orders.push(Order { index, action });
        }
        orders
    }

    fn go_on_until(&mut self, killed: Killed, deadline: Moment) {
        self.shutdown = Some(Shutdown { deadline, killed });
    }

    fn give_up(&mut self, which: &[usize], now: Moment) {
        for &index in which {
            if let Some(entry) = self.entries.get_mut(index) {
                entry.machine = Machine::new(&entry.service, now);
            }
            self.mark_changed(index);
        }
    }

    fn where_entry(&self, holds: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let found = (0..).zip(&self.entries).filter(|(_, entry)| holds(entry));
        found.map(|(index, _)| index).collect()
    }
}

fn lives(entry: &Entry) -> bool {
    entry.machine.has_processes()
}

fn keeps_log(entry: &Entry) -> bool {
    entry.service.role == Role::LogKeeper
}
