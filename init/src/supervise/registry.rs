//! All services: who waits for whom, what clients ask, and the order of a shutdown; pure.

use std::collections::{HashMap, HashSet, VecDeque};

use gokrazy_core::control::{Refusal, Request};

use super::Moment;
use super::machine::Machine;
use super::phase::{Action, Event, Phase};
use super::shutdown::Shutdown;
use crate::service::condition::Condition;
use crate::service::{Role, Service, Start, is_name, signals};

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
}

impl Entry {
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
        let is_news = event.is_news();
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
            .filter_map(|entry| entry.machine.deadline())
            .chain(own)
            .min()
    }

    /// Lets deadlines pass.
    pub fn on_time(&mut self, now: Moment) -> Vec<Order> {
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

    /// Does what a client asks, or says why not; [`Request::End`] is the caller's.
    ///
    /// # Errors
    /// Why the request is turned down.
    pub fn request(&mut self, request: &Request, now: Moment) -> Result<Vec<Order>, Refusal> {
        if self.is_ending() {
            return Err(Refusal::ShuttingDown);
        }
        match request {
            Request::Start { name } => Ok(self.on(self.index(name)?, Event::Start, now)),
            Request::Stop { name } => self.stop(name, now),
            Request::Restart { name } => Ok(self.on(self.index(name)?, Event::Restart, now)),
            Request::Signal { name, signal } => self.signal(name, signal),
            Request::Divert {
                name,
                program,
                arguments,
            } => self.divert(name, program, arguments, now),
            Request::End { .. } => Ok(Vec::new()),
        }
    }

    fn index(&self, name: &str) -> Result<usize, Refusal> {
        let index = self.by_name.get(name).copied();
        let is_here = |index: &usize| self.entries.get(*index).is_some_and(|entry| !entry.is_gone);
        index.filter(is_here).ok_or(Refusal::NoSuchService)
    }

    fn stop(&mut self, name: &str, now: Moment) -> Result<Vec<Order>, Refusal> {
        let index = self.index(name)?;
        match self.entries.get(index).map(|entry| entry.service.role) {
            Some(Role::LogKeeper) => {
                let why = format!("{name} keeps the output of all others: restart it instead");
                Err(Refusal::Failed(why))
            }
            Some(Role::Application | Role::Networked | Role::System) | None => {
                Ok(self.on(index, Event::Stop, now))
            }
        }
    }

    fn signal(&self, name: &str, signal: &str) -> Result<Vec<Order>, Refusal> {
        let index = self.index(name)?;
        let number = signals::parse(signal)
            .ok_or_else(|| Refusal::Malformed(format!("unknown signal `{signal}`")))?;
        let runs = self
            .entries
            .get(index)
            .is_some_and(|entry| entry.machine.pid().is_some());
        if runs {
            Ok(vec![Order {
                index,
                action: Action::SignalMain(number),
            }])
        } else {
            Err(Refusal::Failed(format!("{name} does not run")))
        }
    }

    fn divert(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
        now: Moment,
    ) -> Result<Vec<Order>, Refusal> {
        if !program.starts_with('/') {
            return Err(Refusal::Malformed(format!(
                "`{program}` is no absolute path"
            )));
        }
        if !is_name(name) {
            return Err(Refusal::Malformed(format!("`{name}` is no service's name")));
        }
        let is_new = self.find(name).is_none();
        // Nothing if one of that name was there and went.
        self.add(Service::new(name, &[program]), now);
        let index = self.by_name.get(name).copied().unwrap_or(usize::MAX);
        if let Some(entry) = self.entries.get_mut(index) {
            entry.is_made_by_request |= is_new;
            entry.is_gone = false;
            let arguments = arguments.iter().cloned();
            entry.diverted = Some(
                std::iter::once(program.to_owned())
                    .chain(arguments)
                    .collect(),
            );
        }
        Ok(self.on(index, Event::Restart, now))
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
