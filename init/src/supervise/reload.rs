//! Tables that were read anew: services come, go and change, and the others notice nothing; pure.

use std::collections::HashMap;

use super::Moment;
use super::phase::{Event, Phase};
use super::registry::{Order, Registry};
use crate::service::condition::Condition;
use crate::service::{Role, Service, Start};

/// Whether services that the tables do not name any more go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// They are stopped and forgotten.
    Goes,
    /// They stay: a part of the tables could not be read, and may be theirs.
    Stays,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// What the shell owes.
    pub orders: Vec<Order>,
    /// Services that are new, by position.
    pub added: Vec<usize>,
    /// Services that are to be run another way, by position.
    pub changed: Vec<usize>,
    /// Services that go, by position.
    pub removed: Vec<usize>,
}

impl Registry {
    /// Takes in the applications that the tables name now.
    pub fn reload(&mut self, services: Vec<Service>, absent: Absent, now: Moment) -> Reloaded {
        let mut reloaded = Reloaded::default();
        if self.is_ending() {
            return reloaded;
        }
        let mut wanted: HashMap<String, Service> = services
            .iter()
            .map(|service| (service.name.clone(), service.clone()))
            .collect();
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index) else {
                continue;
            };
            if entry.service.role != Role::Application {
                wanted.remove(&entry.service.name);
                continue;
            }
            match wanted.remove(&entry.service.name) {
                Some(service) => self.replace(index, service, &mut reloaded),
                None if absent == Absent::Goes && !entry.is_gone && !entry.is_made_by_request => {
                    reloaded.removed.push(index);
                }
                None => {}
            }
        }
        // In the order of the tables.
        for service in services {
            if let Some(service) = wanted.remove(&service.name) {
                reloaded.added.push(self.entries.len());
                self.add(service, now);
            }
        }
        self.relate();
        self.settle(&mut reloaded, now);
        reloaded
    }

    fn replace(&mut self, index: usize, service: Service, reloaded: &mut Reloaded) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let is_back = std::mem::take(&mut entry.is_gone);
        let is_other = entry.service != service;
        if is_other {
            entry.machine.follow(&service);
            entry.service = service;
            entry.is_made_by_request = false;
        }
        match (is_back, is_other) {
            (true, _) => reloaded.added.push(index),
            (false, true) => reloaded.changed.push(index),
            (false, false) => {}
        }
    }

    /// Who waits for whom has changed.
    fn relate(&mut self) {
        self.dependents.clear();
        for (index, entry) in (0..).zip(&self.entries) {
            for condition in &entry.service.wait_for {
                if let Condition::Service(name) = condition {
                    self.dependents.entry(name.clone()).or_default().push(index);
                }
            }
        }
    }

    fn settle(&mut self, reloaded: &mut Reloaded, now: Moment) {
        for &index in &reloaded.removed {
            if let Some(entry) = self.entries.get_mut(index) {
                entry.is_gone = true;
            }
            reloaded.orders.extend(self.on(index, Event::Stop, now));
        }
        for &index in &reloaded.changed {
            let phase = self.entries.get(index).map(|entry| entry.machine.phase());
            // One that rests or was stopped stays as it is; one that waits may wait for something else now.
            let event = match phase {
                Some(Phase::Starting { .. } | Phase::Running { .. } | Phase::Resting { .. }) => {
                    Event::Restart
                }
                Some(Phase::Waiting) => Event::Start,
                Some(
                    Phase::Stopped | Phase::Finished | Phase::Launching | Phase::Stopping { .. },
                )
                | None => continue,
            };
            reloaded.orders.extend(self.on(index, event, now));
            reloaded.orders.extend(self.check(index, now));
        }
        for &index in &reloaded.added {
            let starts = self
                .entries
                .get(index)
                .is_some_and(|entry| entry.service.start == Start::Boot);
            if starts {
                reloaded.orders.extend(self.on(index, Event::Start, now));
            }
            self.mark_changed(index);
        }
        for index in 0..self.entries.len() {
            // What a service waits for may have come to be, or gone.
            self.mark_changed(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::phase::Action;
    use std::time::Duration;

    const NOW: Moment = Duration::from_secs(100);

    fn service(name: &str) -> Service {
        Service::new(name, &["/x"])
    }

    /// A registry in which all that start do run; pids are positions and 100.
    fn running(services: Vec<Service>) -> Registry {
        let mut registry = Registry::new(services, NOW);
        let orders = registry.boot(NOW);
        run(&mut registry, orders);
        registry
    }

    fn run(registry: &mut Registry, orders: Vec<Order>) {
        for Order { index, action } in orders {
            if let Action::Launch { .. } = action {
                let pid = 100 + u32::try_from(index).unwrap();
                let more = registry.on(index, Event::Launched { pid }, NOW);
                assert!(more.is_empty());
                let more = registry.on(index, Event::Executed, NOW);
                run(registry, more);
            }
        }
    }

    fn actions(reloaded: &Reloaded) -> Vec<(usize, &Action)> {
        reloaded
            .orders
            .iter()
            .map(|order| (order.index, &order.action))
            .collect()
    }

    #[test]
    fn what_is_as_it_was_is_not_touched() {
        let mut registry = running(vec![service("a"), service("b")]);
        let reloaded = registry.reload(vec![service("b"), service("a")], Absent::Goes, NOW);
        assert!(
            reloaded.orders.is_empty()
                && reloaded.changed.is_empty()
                && reloaded.removed.is_empty()
        );
    }

    #[test]
    fn services_come_go_and_change() {
        let stopped = Service::new_stopped("d", &["/x"]);
        let mut registry = running(vec![
            service("a"),
            service("b"),
            service("c"),
            stopped.clone(),
        ]);
        let changed = service("b").env("X", "y");
        let other = stopped.env("X", "y");
        let reloaded = registry.reload(
            vec![service("a"), changed, other, service("e")],
            Absent::Goes,
            NOW,
        );
        assert_eq!(
            (
                &reloaded.added[..],
                &reloaded.changed[..],
                &reloaded.removed[..]
            ),
            (&[4][..], &[1, 3][..], &[2][..])
        );
        let term = Action::Signal(15);
        assert_eq!(
            actions(&reloaded),
            [(2, &term), (1, &term), (4, &Action::Launch { first: true })]
        );
        assert!(registry.find("c").is_none(), "nobody may ask for it");
        // It comes back before it is gone, and starts anew when it is.
        let all = ["a", "b", "c", "d", "e"].map(service).to_vec();
        let reloaded = registry.reload(all, Absent::Goes, NOW);
        assert_eq!(reloaded.added, [2]);
        assert!(registry.find("c").is_some());
    }

    #[test]
    fn nothing_goes_while_tables_cannot_be_read() {
        let mut registry = running(vec![service("a"), service("b")]);
        let reloaded = registry.reload(vec![service("a")], Absent::Stays, NOW);
        assert!(reloaded.orders.is_empty() && reloaded.removed.is_empty());
    }

    #[test]
    fn our_own_daemons_are_no_business_of_tables() {
        let web = Service {
            role: Role::System,
            ..service("web")
        };
        let mut registry = running(vec![web]);
        let reloaded = registry.reload(vec![service("web").env("X", "y")], Absent::Goes, NOW);
        assert!(reloaded.orders.is_empty() && reloaded.added.is_empty());
    }

    #[test]
    fn one_that_waited_for_what_is_not_awaited_any_more_starts() {
        let waits = service("a").wait_for(Condition::Service("none".to_owned()));
        let mut registry = running(vec![waits]);
        let reloaded = registry.reload(vec![service("a")], Absent::Goes, NOW);
        assert_eq!(actions(&reloaded), [(0, &Action::Launch { first: true })]);
        // And one that is to wait now for a new one does.
        let waits = service("b").wait_for(Condition::Service("c".to_owned()));
        let reloaded = registry.reload(vec![service("a"), waits, service("c")], Absent::Goes, NOW);
        assert_eq!(actions(&reloaded), [(2, &Action::Launch { first: true })]);
        let _ = registry.on(2, Event::Launched { pid: 9 }, NOW);
        let orders = registry.on(2, Event::Executed, NOW);
        assert_eq!(orders[0].index, 1);
    }
}
