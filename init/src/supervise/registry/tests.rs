use std::time::Duration;

use gokrazy_core::control::{Refusal, Request};
use gokrazy_core::service_status::State;

use super::{Order, Registry};
use crate::service::condition::Condition;
use crate::service::{Role, Service, Start};
use crate::supervise::Moment;
use crate::supervise::ending::Ending;
use crate::supervise::notify::Notice;
use crate::supervise::phase::{Action, Event};
use crate::supervise::tests::Random;

fn at(ms: u64) -> Moment {
    Duration::from_millis(ms)
}

fn service(name: &str, needs: &[&str]) -> Service {
    let needs = needs
        .iter()
        .map(|need| Condition::Service((*need).to_owned()));
    Service {
        wait_for: needs.collect(),
        ..Service::new(name, &["/x"])
    }
}

/// A world in which every process starts, lives and obeys.
struct World {
    registry: Registry,
    /// Services with a living process, by index.
    lives: Vec<usize>,
    stopped: Vec<String>,
    now: Moment,
}

impl World {
    fn new(services: Vec<Service>) -> Self {
        let mut world = Self {
            registry: Registry::new(services, at(0)),
            lives: Vec::new(),
            stopped: Vec::new(),
            now: at(0),
        };
        let orders = world.registry.boot(at(0));
        world.obey(orders);
        world
    }

    fn obey(&mut self, orders: Vec<Order>) {
        for Order { index, action } in orders {
            match action {
                Action::Launch { .. } => {
                    assert!(!self.lives.contains(&index));
                    self.lives.push(index);
                    let pid = u32::try_from(index).unwrap() + 100;
                    self.feed(index, Event::Launched { pid });
                    self.feed(index, Event::Executed);
                }
                Action::Signal(_) => {
                    self.stopped
                        .push(self.registry.entries()[index].service.name.clone());
                }
                Action::CheckConditions
                | Action::SignalMain(_)
                | Action::SignalStrays(_)
                | Action::KillTree => {}
            }
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        let orders = self.registry.on(index, event, self.now);
        self.obey(orders);
    }

    fn exit(&mut self, name: &str, status: i32) {
        let index = self.index(name);
        self.lives.retain(|lives| *lives != index);
        self.feed(
            index,
            Event::Exited {
                ending: Ending::Exit(status),
                others: false,
            },
        );
    }

    fn index(&self, name: &str) -> usize {
        self.registry
            .entries()
            .iter()
            .position(|entry| entry.service.name == name)
            .unwrap()
    }

    fn state(&self, name: &str) -> State {
        self.registry.find(name).unwrap().machine.state()
    }

    fn end(&mut self) {
        let orders = self.registry.begin_shutdown(at(30_000), self.now);
        self.obey(orders);
    }
}

#[test]
fn a_service_starts_when_what_it_waits_for_is_ready() {
    let db = Service {
        notify: true,
        ..service("db", &[])
    };
    let mut world = World::new(vec![service("shop", &["db"]), db]);
    assert_eq!(
        (world.state("shop"), world.state("db")),
        (State::Waiting, State::Starting)
    );
    let db = world.index("db");
    world.feed(db, Event::Said(crate::supervise::notify::Notice::Ready));
    assert_eq!(world.state("shop"), State::Running);
}

#[test]
fn a_finished_service_counts_and_a_failed_one_does_not() {
    let setup = |restart| service("setup", &[]).restart(restart);
    let mut world = World::new(vec![
        Service {
            notify: true,
            ..setup(crate::service::Restart::Never)
        },
        service("shop", &["setup"]),
    ]);
    assert_eq!(world.state("shop"), State::Waiting);
    world.exit("setup", 0);
    assert_eq!(
        (world.state("setup"), world.state("shop")),
        (State::Finished, State::Running)
    );

    let failing = Service {
        notify: true,
        ..setup(crate::service::Restart::Never)
    };
    let mut world = World::new(vec![failing, service("shop", &["setup"])]);
    world.exit("setup", 1);
    assert_eq!(
        (world.state("setup"), world.state("shop")),
        (State::Stopped, State::Waiting)
    );
}

#[test]
fn conditions_of_the_machine_are_awaited_only_by_who_waits() {
    let clock = Service::new_wait_for_clock("a", &["/a"]);
    let manual = Service {
        start: Start::Manual,
        ..Service::new("b", &["/b"]).wait_for(Condition::NetRoute)
    };
    let mut world = World::new(vec![clock, manual]);
    assert_eq!(
        world.registry.awaited().into_iter().collect::<Vec<_>>(),
        [Condition::Clock]
    );
    let orders = world.registry.set_condition(&Condition::Clock, true, at(1));
    world.obey(orders);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (State::Running, State::Stopped)
    );
    assert!(world.registry.awaited().is_empty());
}

#[test]
fn a_shutdown_goes_against_the_order_of_the_start_and_our_daemons_go_last() {
    let dhcp = Service {
        role: Role::System,
        ..service("dhcp", &[])
    };
    let logd = log_keeper();
    let page = Service {
        role: Role::Networked,
        ..service("web", &[])
    };
    let services = vec![
        logd,
        dhcp,
        page,
        service("db", &[]),
        service("shop", &["db"]),
        service("lone", &[]),
    ];
    let mut world = World::new(services);
    world.end();
    assert_eq!(world.stopped, ["shop", "lone"]);
    world.exit("lone", 0);
    world.exit("shop", 0);
    assert_eq!(world.stopped, ["shop", "lone", "db"]);
    world.exit("db", 0);
    assert_eq!(world.stopped, ["shop", "lone", "db", "web"]);
    world.exit("web", 0);
    world.exit("dhcp", 0);
    assert!(!world.registry.has_ended());
    world.exit("logd", 0);
    assert_eq!(world.stopped, ["shop", "lone", "db", "web", "dhcp", "logd"]);
    assert!(world.registry.has_ended());
}

#[test]
fn a_shutdown_kills_at_its_deadline_and_gives_up_after_it() {
    let stubborn = Service {
        stop_timeout: at(600_000),
        ..service("a", &[])
    };
    let mut world = World::new(vec![stubborn, service("b", &["a"])]);
    world.end();
    assert_eq!(
        world.registry.deadline(),
        Some(at(10_000)),
        "b's own patience"
    );
    let killed = world.registry.on_time(at(30_000));
    assert!(
        killed
            .iter()
            .filter(|order| order.action == Action::KillTree)
            .count()
            >= 2,
        "{killed:?}"
    );
    let _ = world.registry.on_time(at(33_000));
    assert!(world.registry.has_ended());
}

fn log_keeper() -> Service {
    Service {
        role: Role::LogKeeper,
        ..service("logd", &[])
    }
}

fn killed(orders: &[Order]) -> Vec<usize> {
    let kills = orders
        .iter()
        .filter(|order| order.action == Action::KillTree);
    kills.map(|order| order.index).collect()
}

#[test]
fn the_log_keeper_outlives_those_that_a_deadline_kills() {
    let logd = log_keeper();
    let mut world = World::new(vec![logd, service("deaf", &[])]);
    world.end();
    let orders = world.registry.on_time(at(30_000));
    assert!(!killed(&orders).contains(&0) && killed(&orders).contains(&1));
    world.now = at(30_001);
    world.exit("deaf", 9);
    assert_eq!(world.stopped, ["deaf", "logd"]);
    // One that stands still itself is killed when it has had its time, and holds nobody up for long.
    assert_eq!(killed(&world.registry.on_time(at(32_000))), [0; 0]);
    assert_eq!(world.registry.deadline(), Some(at(32_001)));
    assert_eq!(killed(&world.registry.on_time(at(32_001))), [0]);
    assert!(!world.registry.has_ended());
    let _ = world.registry.on_time(at(34_001));
    assert!(world.registry.has_ended());

    let logd = log_keeper();
    let mut world = World::new(vec![logd]);
    world.end();
    let orders = world.registry.on_time(at(30_000));
    assert!(killed(&orders).contains(&0), "it is the last one itself");
}

#[test]
fn the_log_keeper_has_its_time_also_when_it_is_told_to_stop_just_before_the_deadline() {
    let logd = log_keeper();
    let mut world = World::new(vec![logd, service("late", &[])]);
    world.end();
    world.now = at(29_950);
    world.exit("late", 0);
    assert_eq!(world.stopped, ["late", "logd"]);
    assert_eq!(killed(&world.registry.on_time(at(30_000))), [0; 0]);
    assert_eq!(killed(&world.registry.on_time(at(31_950))), [0]);
}

#[test]
fn the_log_keeper_is_told_to_stop_also_when_the_kernel_holds_another() {
    let logd = log_keeper();
    let mut world = World::new(vec![logd, service("held", &[])]);
    world.end();
    let _ = world.registry.on_time(at(30_000));
    world.now = at(32_000);
    let orders = world.registry.on_time(world.now);
    world.obey(orders);
    assert_eq!(world.stopped, ["held", "logd"]);
    assert!(!world.registry.has_ended());
    world.exit("logd", 0);
    assert!(world.registry.has_ended());
}

#[test]
fn nothing_starts_during_a_shutdown() {
    let mut world = World::new(vec![service("a", &[]), Service::new_stopped("b", &["/b"])]);
    world.end();
    let request = Request::Start {
        name: "b".to_owned(),
    };
    assert_eq!(
        world.registry.request(&request, at(1)),
        Err(Refusal::ShuttingDown)
    );
    world.exit("a", 1);
    assert!(world.registry.has_ended());
    assert_eq!(world.registry.deadline(), Some(at(30_000)));
}

#[test]
fn requests_are_met_or_refused_with_a_reason() {
    let logd = log_keeper();
    let mut world = World::new(vec![
        service("a", &[]),
        Service::new_stopped("b", &["/b"]),
        logd,
    ]);
    let name = |name: &str| name.to_owned();
    let mut ask = |request| world.registry.request(&request, at(1));
    assert_eq!(
        ask(Request::Start { name: name("x") }),
        Err(Refusal::NoSuchService)
    );
    assert_eq!(
        ask(Request::Start { name: name("a") }),
        Ok(vec![]),
        "it runs"
    );
    assert_eq!(
        ask(Request::Stop { name: name("b") }),
        Ok(vec![]),
        "it does not run"
    );
    assert!(matches!(
        ask(Request::Stop { name: name("logd") }),
        Err(Refusal::Failed(_))
    ));
    let signal = |service: &str, signal: &str| Request::Signal {
        name: name(service),
        signal: name(signal),
    };
    assert!(matches!(ask(signal("b", "HUP")), Err(Refusal::Failed(_))));
    assert!(matches!(
        ask(signal("a", "FLY")),
        Err(Refusal::Malformed(_))
    ));
    assert_eq!(
        ask(signal("a", "HUP")),
        Ok(vec![Order {
            index: 0,
            action: Action::SignalMain(1)
        }])
    );
    let divert = |service: &str, program: &str| Request::Divert {
        name: name(service),
        program: name(program),
        arguments: vec![name("--x")],
    };
    assert!(matches!(
        ask(divert("a", "relative")),
        Err(Refusal::Malformed(_))
    ));
    assert!(matches!(
        ask(divert("../a", "/x")),
        Err(Refusal::Malformed(_))
    ));
    assert!(ask(divert("new", "/x")).is_ok());
    assert_eq!(world.registry.find("new").unwrap().command(), ["/x", "--x"]);
}

#[test]
fn services_made_by_requests_have_no_reserved_names_and_are_bounded() {
    let mut world = World::new(vec![service("a", &[])]);
    let mut divert = |name: &str| {
        let request = Request::Divert {
            name: name.to_owned(),
            program: "/x".to_owned(),
            arguments: Vec::new(),
        };
        world.registry.request(&request, at(0)).is_ok()
    };
    assert!(!divert("init") && !divert("kernel"));
    for n in 0..64 {
        assert!(divert(&format!("made{n}")));
    }
    assert!(!divert("one-more") && divert("made5") && divert("a"));
}

#[test]
fn a_status_text_is_published_once_and_not_too_often() {
    let mut world = World::new(vec![service("a", &[])]);
    let registry = &mut world.registry;
    let mut say = |text: &str, now: Moment| {
        while registry.take_changed().is_some() {}
        let _ = registry.on_time(now);
        let due = registry.take_changed().is_some();
        let _ = registry.on(0, Event::Said(Notice::Status(text.to_owned())), now);
        (due, registry.has_changes(), registry.deadline())
    };
    assert_eq!(say("x", at(10)), (false, true, None));
    assert_eq!(say("x", at(11)), (false, false, None));
    assert_eq!(say("y", at(12)), (false, false, Some(at(110))));
    assert_eq!(say("z", at(13)), (false, false, Some(at(110))));
    assert_eq!(say("z", at(110)), (true, false, None));
    assert_eq!(say("x", at(111)), (false, false, Some(at(210))));
    assert_eq!(say("y", at(400)), (true, false, Some(at(500))));
    assert_eq!(say("y", at(500)), (true, false, None));
    assert_eq!(say("a", at(700)), (false, true, None));
}

#[test]
fn random_graphs_start_in_order_and_shut_down_against_it() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let count = 2 + random.below(12);
        let services: Vec<Service> = (0..count)
            .map(|n| {
                let needs: Vec<String> = (0..n)
                    .filter(|_| random.below(4) == 0)
                    .map(|need| format!("s{need}"))
                    .collect();
                let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
                service(&format!("s{n}"), &needs)
            })
            .rev()
            .collect();
        let mut world = World::new(services.clone());
        assert_eq!(world.lives.len(), services.len(), "seed {seed}");
        world.end();
        while let Some(&index) = world.lives.first() {
            let living = |name: &str| {
                world
                    .lives
                    .iter()
                    .any(|&index| services[index].name == name)
            };
            for service in &services {
                let needs = service
                    .wait_for
                    .iter()
                    .filter_map(|condition| match condition {
                        Condition::Service(name) => Some(name),
                        _ => None,
                    });
                for need in needs.filter(|need| world.stopped.contains(need)) {
                    assert!(
                        !living(&service.name),
                        "seed {seed}: {need} before {}",
                        service.name
                    );
                }
            }
            // Any that was told to stop may end first.
            let told: Vec<usize> = world
                .lives
                .iter()
                .copied()
                .filter(|&index| world.stopped.contains(&services[index].name))
                .collect();
            assert!(
                !told.is_empty(),
                "seed {seed}: nobody was told to stop, {index} lives"
            );
            let next =
                told[usize::try_from(random.below(u64::try_from(told.len()).unwrap())).unwrap()];
            let name = services[next].name.clone();
            world.exit(&name, 0);
        }
        assert!(world.registry.has_ended(), "seed {seed}");
    }
}

#[test]
fn signs_of_life_change_no_file() {
    let service = Service::new("a", &["/a"]);
    let mut registry = Registry::new(vec![service], at(0));
    while registry.take_changed().is_some() {}
    let _ = registry.on(0, Event::Said(Notice::Watchdog), at(1));
    assert!(!registry.has_changes());
    let _ = registry.on(0, Event::Said(Notice::Status("x".to_owned())), at(2));
    assert!(registry.has_changes());
}
