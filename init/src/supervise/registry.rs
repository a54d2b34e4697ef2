//! All services: who waits for whom, what clients ask, and the order of a shutdown; pure.

mod requests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use gokrazy_core::service_status::State;

use super::Moment;
use super::machine::Machine;
use super::notify::Notice;
use super::phase::{Action, Event, Phase};
use super::shutdown::Shutdown;
use crate::service::condition::Condition;
use crate::service::{Service, Start};

/// So long after a service's status text was published, the next one waits: each costs a file.
const STATUS_PAUSE: Duration = Duration::from_millis(100);

/// A service and its life.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub service: Service,
    /// Where it is in its life.
    pub machine: Machine,
    /// The command that runs in its place until the next boot.
    pub diverted: Option<Vec<String>>,
    /// Whether the tables do not name it any more: it is on its way out, or forgotten.
    pub is_gone: bool,
    /// Whether no table ever named it: a client diverted to it.
    pub is_made_by_request: bool,
    changed: bool,
    /// When the next status text may be published.
    status_from: Moment,
    /// Whether one waits for that.
    status_waits: bool,
}

impl Entry {
    /// When something is due for it, if ever.
    fn deadline(&self) -> Option<Moment> {
        let status = self.status_waits.then_some(self.status_from);
        self.machine.deadline().into_iter().chain(status).min()
    }

    /// Whether an event may change what is published, and that not too soon.
    ///
    /// Signs of life and status texts come all the time, and init writes files before all others run.
    fn is_news(&mut self, event: &Event, now: Moment) -> bool {
        match event {
            Event::Said(Notice::Watchdog | Notice::ExtendTimeout(_)) => false,
            Event::Said(Notice::Status(text)) => {
                if self.machine.status_text() == Some(text) {
                    return false;
                }
                self.status_waits = now < self.status_from;
                if !self.status_waits {
                    self.status_from = now.saturating_add(STATUS_PAUSE);
                }
                !self.status_waits
            }
            // It is what it is already.
            Event::Said(Notice::Ready) => self.machine.state() != State::Running,
            _ => true,
        }
    }

    /// The command of the next start.
    pub fn command(&self) -> &[String] {
        self.diverted.as_deref().unwrap_or(&self.service.command)
    }
}

/// An action that the shell owes to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Order {
    /// Position of the service in [`Registry::entries`].
    pub index: usize,
    /// What to do.
    pub action: Action,
}

/// All services.
#[derive(Debug)]
pub struct Registry {
    pub(super) entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    /// Services that wait for one of that name.
    pub(super) dependents: HashMap<String, Vec<usize>>,
    holding: HashSet<Condition>,
    changed: VecDeque<usize>,
    pub(super) shutdown: Option<Shutdown>,
}

impl Registry {
    /// Services that do not run yet.
    pub fn new(services: Vec<Service>, now: Moment) -> Self {
        let mut registry = Self {
            entries: Vec::with_capacity(services.len()),
            by_name: HashMap::with_capacity(services.len()),
            dependents: HashMap::new(),
            holding: HashSet::new(),
            changed: VecDeque::new(),
            shutdown: None,
        };
        for service in services {
            registry.add(service, now);
        }
        registry
    }

    /// Adds a service; one whose name is taken is left out.
    pub fn add(&mut self, service: Service, now: Moment) {
        if self.by_name.contains_key(&service.name) {
            return;
        }
        let index = self.entries.len();
        for condition in &service.wait_for {
            if let Condition::Service(name) = condition {
                self.dependents.entry(name.clone()).or_default().push(index);
            }
        }
        self.by_name.insert(service.name.clone(), index);
        self.entries.push(Entry {
            machine: Machine::new(&service, now),
            service,
            diverted: None,
            is_gone: false,
            is_made_by_request: false,
            changed: false,
            status_from: Moment::ZERO,
            status_waits: false,
        });
        self.mark_changed(index);
    }

    /// All services, in the order in which they were added.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a shutdown is under way.
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Starts what starts with init.
    pub fn boot(&mut self, now: Moment) -> Vec<Order> {
        let starts: Vec<usize> = (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.service.start == Start::Boot)
            .map(|(index, _)| index)
            .collect();
        starts
            .into_iter()
            .flat_map(|index| self.on(index, Event::Start, now))
            .collect()
    }

    /// Takes in what happened to a service.
    pub fn on(&mut self, index: usize, event: Event, now: Moment) -> Vec<Order> {
        let mut orders = self.step(index, event, now);
        if self.is_ending() {
            orders.extend(self.advance_shutdown(now));
        }
        orders
    }

    /// The event itself and what follows from it among the services.
    pub(super) fn step(&mut self, index: usize, event: Event, now: Moment) -> Vec<Order> {
        let Some(entry) = self.entries.get_mut(index) else {
            return Vec::new();
        };
        let was_ready = entry.machine.is_ready();
        let is_news = entry.is_news(&event, now);
        let actions = entry.machine.on(event, now);
        let became_ready = entry.machine.is_ready() && !was_ready;
        if is_news {
            self.mark_changed(index);
        }
        let mut orders = Vec::new();
        for action in actions {
            match action {
                Action::CheckConditions => orders.extend(self.check(index, now)),
                Action::Launch { .. }
                | Action::Signal(_)
                | Action::SignalStrays(_)
                | Action::SignalMain(_)
                | Action::KillTree => {
                    orders.push(Order { index, action });
                }
            }
        }
        if became_ready {
            orders.extend(self.wake_dependents(index, now));
        }
        orders
    }

    fn wake_dependents(&mut self, index: usize, now: Moment) -> Vec<Order> {
        let name = self
            .entries
            .get(index)
            .map(|entry| entry.service.name.as_str());
        let waiting = name.and_then(|name| self.dependents.get(name)).cloned();
        let waiting = waiting.unwrap_or_default();
        waiting
            .into_iter()
            .flat_map(|index| self.check(index, now))
            .collect()
    }

    pub(super) fn check(&mut self, index: usize, now: Moment) -> Vec<Order> {
        let waits = self
            .entries
            .get(index)
            .is_some_and(|entry| *entry.machine.phase() == Phase::Waiting);
        if waits && !self.is_ending() && self.unmet(index).next().is_none() {
            self.step(index, Event::ConditionsHold, now)
        } else {
            Vec::new()
        }
    }

    /// What a service still waits for.
    pub fn unmet(&self, index: usize) -> impl Iterator<Item = &Condition> {
        let conditions = self
            .entries
            .get(index)
            .map(|entry| entry.service.wait_for.as_slice());
        conditions
            .unwrap_or_default()
            .iter()
            .filter(|condition| !self.holds(condition))
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Service(name) => self
                .find(name)
                .is_some_and(|entry| entry.machine.is_ready()),
            Condition::Clock | Condition::NetRoute | Condition::NetOnline | Condition::Mount(_) => {
                self.holding.contains(condition)
            }
        }
    }

    /// The service of that name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.by_name
            .get(name)
            .and_then(|&index| self.entries.get(index))
            .filter(|entry| !entry.is_gone)
    }

    /// Conditions of the machine that a waiting service needs and that do not hold.
    pub fn awaited(&self) -> HashSet<Condition> {
        let waiting = (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| *entry.machine.phase() == Phase::Waiting);
        waiting
            .flat_map(|(index, _)| self.unmet(index))
            .filter(|condition| !matches!(condition, Condition::Service(_)))
            .cloned()
            .collect()
    }

    /// Takes in whether a condition of the machine holds.
    pub fn set_condition(&mut self, condition: &Condition, holds: bool, now: Moment) -> Vec<Order> {
        if !holds {
            self.holding.remove(condition);
            return Vec::new();
        }
        if !self.holding.insert(condition.clone()) {
            return Vec::new();
        }
        (0..self.entries.len())
            .flat_map(|index| self.check(index, now))
            .collect()
    }

    /// When [`Registry::on_time`] is due, if ever.
    pub fn deadline(&self) -> Option<Moment> {
        let own = self.shutdown.map(|shutdown| shutdown.deadline);
        self.entries
            .iter()
            .filter_map(Entry::deadline)
            .chain(own)
            .min()
    }

    /// Lets deadlines pass.
    pub fn on_time(&mut self, now: Moment) -> Vec<Order> {
        self.publish_statuses(now);
        let due: Vec<usize> = (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| {
                entry
                    .machine
                    .deadline()
                    .is_some_and(|deadline| deadline <= now)
            })
            .map(|(index, _)| index)
            .collect();
        let mut orders: Vec<Order> = due
            .into_iter()
            .flat_map(|index| self.on(index, Event::Time, now))
            .collect();
        orders.extend(self.enforce_shutdown(now));
        orders
    }

    /// Lets those status texts be published that have waited for it.
    fn publish_statuses(&mut self, now: Moment) {
        for index in 0..self.entries.len() {
            let entry = self.entries.get_mut(index);
            let due = entry.filter(|entry| entry.status_waits && entry.status_from <= now);
            if let Some(entry) = due {
                entry.status_waits = false;
                entry.status_from = now.saturating_add(STATUS_PAUSE);
                self.mark_changed(index);
            }
        }
    }

    /// Takes back a diversion, whose program is gone; says whether there was one.
    pub fn drop_diversion(&mut self, index: usize) -> bool {
        let entry = self.entries.get_mut(index);
        entry.and_then(|entry| entry.diverted.take()).is_some()
    }

    /// The next service whose published state is out of date.
    pub fn take_changed(&mut self) -> Option<usize> {
        let index = self.changed.pop_front()?;
        if let Some(entry) = self.entries.get_mut(index) {
            entry.changed = false;
            entry.status_waits = false;
        }
        Some(index)
    }

    /// Whether a published state is out of date.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Notes that a service's published state is out of date.
    pub fn mark_changed(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index)
            && !entry.changed
        {
            entry.changed = true;
            self.changed.push_back(index);
        }
    }
}

#[cfg(test)]
mod tests;
