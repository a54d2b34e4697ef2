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
    pub(super) deadline: Moment,
    killed: bool,
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
            killed: false,
        });
        let idle: Vec<usize> = self.where_entry(|entry| !entry.machine.has_processes());
        for index in idle {
            // Nothing lives there, so no order can follow.
            let _ = self.step(index, Event::Stop, now);
        }
        self.advance_shutdown(now)
    }

    /// Whether a shutdown is over: no service has a process.
    pub fn has_ended(&self) -> bool {
        self.is_ending()
            && !self
                .entries
                .iter()
                .any(|entry| entry.machine.has_processes())
    }

    pub(super) fn advance_shutdown(&mut self, now: Moment) -> Vec<Order> {
        let lives = |entry: &&Entry| entry.machine.has_processes();
        let turn = self
            .entries
            .iter()
            .filter(lives)
            .map(|entry| entry.service.role)
            .min();
        let mut ready =
            self.where_entry(|entry| Some(entry.service.role) == turn && self.may_stop(entry));
        let stops = |entry: &Entry| matches!(entry.machine.phase(), Phase::Stopping { .. });
        if ready.is_empty() && !self.entries.iter().any(stops) {
            // A circle that started before it was one: it has no first, so all go at once.
            ready = self.where_entry(|entry| entry.machine.has_processes());
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
        dependents.any(|entry| entry.machine.has_processes())
    }

    pub(super) fn enforce_shutdown(&mut self, now: Moment) -> Vec<Order> {
        let Some(shutdown) = self.shutdown.filter(|shutdown| shutdown.deadline <= now) else {
            return Vec::new();
        };
        if shutdown.killed {
            for index in self.where_entry(|entry| entry.machine.has_processes()) {
                self.give_up(index, now);
            }
            return Vec::new();
        }
        // While others live, the log keeper hears their last words; it is told to stop when they are gone.
        let keeps_log = |entry: &Entry| entry.service.role == Role::LogKeeper;
        let is_last = self.only_log_keeper_lives();
        let living = self
            .where_entry(|entry| entry.machine.has_processes() && (is_last || !keeps_log(entry)));
        self.shutdown = Some(Shutdown {
            deadline: now.saturating_add(LAST_GRACE),
            killed: true,
        });
        let mut orders = Vec::new();
        for index in living {
            // The signal that stopping would send is overtaken by the kill.
            let _ = self.step(index, Event::Stop, now);
            orders.push(Order {
                index,
                action: Action::KillTree,
            });
        }
        orders
    }

    fn give_up(&mut self, index: usize, now: Moment) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.machine = Machine::new(&entry.service, now);
        }
        self.mark_changed(index);
    }

    fn where_entry(&self, holds: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let found = (0..).zip(&self.entries).filter(|(_, entry)| holds(entry));
        found.map(|(index, _)| index).collect()
    }

    /// Whether only the log keeper is left, so that nothing more will be printed.
    pub fn only_log_keeper_lives(&self) -> bool {
        let mut living = self
            .entries
            .iter()
            .filter(|entry| entry.machine.has_processes());
        living.all(|entry| entry.service.role == Role::LogKeeper)
    }
}
