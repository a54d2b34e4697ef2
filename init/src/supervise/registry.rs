//! All services: who waits for whom, what clients ask, and the order of a shutdown; pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use gokrazy_core::control::{Refusal, Request};

use super::Moment;
use super::machine::Machine;
use super::phase::{Action, Event, Phase};
use crate::service::condition::Condition;
use crate::service::{Role, Service, Start, is_name, signals};

/// How long after the shutdown's deadline killed processes may take to vanish before they are given up.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// A service and its life.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub service: Service,
    /// Where it is in its life.
    pub machine: Machine,
    /// The command that runs in its place until the next boot.
    pub diverted: Option<Vec<String>>,
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
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    /// Services that wait for one of that name.
    dependents: HashMap<String, Vec<usize>>,
    holding: HashSet<Condition>,
    changed: VecDeque<usize>,
    shutdown: Option<Shutdown>,
}

#[derive(Debug, Clone, Copy)]
struct Shutdown {
    deadline: Moment,
    killed: bool,
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
    fn step(&mut self, index: usize, event: Event, now: Moment) -> Vec<Order> {
        let Some(entry) = self.entries.get_mut(index) else {
            return Vec::new();
        };
        let was_ready = entry.machine.is_ready();
        let actions = entry.machine.on(event, now);
        let became_ready = entry.machine.is_ready() && !was_ready;
        self.mark_changed(index);
        let mut orders = Vec::new();
        for action in actions {
            match action {
                Action::CheckConditions => orders.extend(self.check(index, now)),
                Action::Launch { .. }
                | Action::Signal(_)
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

    fn check(&mut self, index: usize, now: Moment) -> Vec<Order> {
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
        self.by_name
            .get(name)
            .copied()
            .ok_or(Refusal::NoSuchService)
    }

    fn stop(&mut self, name: &str, now: Moment) -> Result<Vec<Order>, Refusal> {
        let index = self.index(name)?;
        match self.entries.get(index).map(|entry| entry.service.role) {
            Some(Role::LogKeeper) => {
                let why = format!("{name} keeps the output of all others: restart it instead");
                Err(Refusal::Failed(why))
            }
            Some(Role::Application | Role::System) | None => Ok(self.on(index, Event::Stop, now)),
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
        if !self.by_name.contains_key(name) {
            if !is_name(name) {
                return Err(Refusal::Malformed(format!("`{name}` is no service's name")));
            }
            self.add(Service::new(name, &[program]), now);
        }
        let index = self.index(name)?;
        if let Some(entry) = self.entries.get_mut(index) {
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

/// The shutdown: those that others wait for stop after them, applications before our daemons, the log keeper last.
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

    fn advance_shutdown(&mut self, now: Moment) -> Vec<Order> {
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

    fn enforce_shutdown(&mut self, now: Moment) -> Vec<Order> {
        let Some(shutdown) = self.shutdown.filter(|shutdown| shutdown.deadline <= now) else {
            return Vec::new();
        };
        let living = self.where_entry(|entry| entry.machine.has_processes());
        if shutdown.killed {
            for index in living {
                self.give_up(index, now);
            }
            return Vec::new();
        }
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

#[cfg(test)]
mod tests;
