use std::time::Duration;

use gokrazy_core::service_status::State;

use super::Machine;
use crate::service::{Restart, Service};
use crate::supervise::Moment;
use crate::supervise::ending::Ending;
use crate::supervise::notify::Notice;
use crate::supervise::phase::{Action, Event, Phase};
use crate::supervise::tests::Random;

const PID: u32 = 77;

fn at(ms: u64) -> Moment {
    Duration::from_millis(ms)
}

fn exited(status: i32) -> Event {
    Event::Exited {
        ending: Ending::Exit(status),
        others: false,
    }
}

/// A service that was asked to start at 0 and is where a start without obstacles leads.
fn started(service: &Service) -> Machine {
    let mut machine = Machine::new(service, at(0));
    assert_eq!(machine.on(Event::Start, at(0)), [Action::CheckConditions]);
    let first = machine.starts() == 0;
    assert_eq!(
        machine.on(Event::ConditionsHold, at(0)),
        [Action::Launch { first }]
    );
    assert_eq!(machine.on(Event::Launched { pid: PID }, at(0)), []);
    assert_eq!(machine.on(Event::Executed, at(0)), []);
    machine
}

fn plain() -> Service {
    Service::new("a", &["/a"])
}

#[track_caller]
fn check_end(restart: Restart, status: i32, want: State) {
    let mut machine = started(&plain().restart(restart));
    assert_eq!(machine.on(exited(status), at(10)), []);
    assert_eq!(machine.state(), want, "{restart:?} {status}");
}

#[test]
fn one_that_ends_before_it_says_that_it_is_ready_has_failed() {
    let promises = |policy| Service {
        notify: true,
        ..plain().restart(policy)
    };
    for (policy, status, want, why) in [
        (Restart::OnFailure, 0, State::Restarting, Ending::Unready),
        (Restart::Never, 0, State::Finished, Ending::Exit(0)),
        (Restart::Always, 0, State::Restarting, Ending::Unready),
        (Restart::OnFailure, 125, State::Stopped, Ending::Exit(125)),
    ] {
        for says_that_it_ends in [false, true] {
            let mut machine = started(&promises(policy));
            if says_that_it_ends {
                assert_eq!(machine.on(Event::Said(Notice::Stopping), at(5)), []);
            }
            assert_eq!(machine.on(exited(status), at(10)), []);
            assert_eq!(machine.state(), want, "{policy:?} {status}");
            assert_eq!(machine.last_ending(), Some(&why));
        }
    }
    let mut ready = started(&promises(Restart::OnFailure));
    assert_eq!(ready.on(Event::Said(Notice::Ready), at(5)), []);
    assert_eq!(ready.on(Event::Said(Notice::Stopping), at(6)), []);
    assert_eq!(ready.on(exited(0), at(10)), []);
    assert_eq!(ready.state(), State::Finished);
}

#[test]
fn one_that_says_it_ends_is_judged_by_how_it_does() {
    let stopping = |policy: Restart| {
        let mut machine = started(&plain().restart(policy));
        assert_eq!(machine.on(Event::Said(Notice::Stopping), at(100)), []);
        assert_eq!(machine.state(), State::Stopping);
        assert!(!machine.is_ready());
        machine
    };
    for (policy, status, want) in [
        (Restart::OnFailure, 0, State::Finished),
        (Restart::OnFailure, 3, State::Restarting),
        (Restart::Always, 0, State::Restarting),
    ] {
        let mut machine = stopping(policy);
        assert_eq!(machine.on(exited(status), at(200)), []);
        assert_eq!(machine.state(), want, "{policy:?} {status}");
    }

    let mut left = stopping(Restart::OnFailure);
    let event = Event::Exited {
        ending: Ending::Exit(0),
        others: true,
    };
    assert_eq!(left.on(event, at(200)), [Action::KillTree]);
    assert_eq!(left.on(Event::TreeEmpty, at(210)), []);
    assert_eq!(left.state(), State::Finished);

    let mut hung = stopping(Restart::OnFailure);
    assert_eq!(hung.deadline(), Some(at(10_100)));
    assert_eq!(hung.on(Event::Time, at(10_100)), [Action::KillTree]);

    let mut stopped = stopping(Restart::Always);
    assert_eq!(stopped.on(Event::Stop, at(150)), []);
    assert_eq!(stopped.on(exited(0), at(200)), []);
    assert_eq!(stopped.state(), State::Stopped);
}

#[test]
fn one_that_reloads_is_ready_all_the_while_and_shown_as_such() {
    let mut machine = started(&plain().restart(Restart::Always));
    assert_eq!(machine.on(Event::Said(Notice::Reloading), at(100)), []);
    assert_eq!(
        (machine.state(), machine.is_ready()),
        (State::Reloading, true)
    );
    assert_eq!(machine.on(Event::Said(Notice::Reloading), at(110)), []);
    assert_eq!(machine.entered(), at(100));
    assert_eq!(machine.on(Event::Said(Notice::Ready), at(200)), []);
    assert_eq!(
        (machine.state(), machine.entered()),
        (State::Running, at(200))
    );
    assert_eq!(machine.on(Event::Said(Notice::Ready), at(300)), []);
    assert_eq!(machine.entered(), at(200));

    assert_eq!(machine.on(Event::Said(Notice::Reloading), at(400)), []);
    assert_eq!(machine.on(exited(1), at(500)), []);
    assert_eq!(machine.state(), State::Restarting);
}

#[test]
fn each_policy_answers_each_end() {
    check_end(Restart::OnFailure, 0, State::Finished);
    check_end(Restart::OnFailure, 1, State::Restarting);
    check_end(Restart::OnFailure, 125, State::Stopped);
    check_end(Restart::Always, 0, State::Restarting);
    check_end(Restart::Always, 1, State::Restarting);
    check_end(Restart::Always, 125, State::Stopped);
    check_end(Restart::Never, 0, State::Finished);
    check_end(Restart::Never, 1, State::Stopped);
    check_end(Restart::Never, 125, State::Stopped);
}

#[test]
fn a_failure_is_answered_after_the_delay_and_not_before() {
    let mut machine = started(&plain());
    assert_eq!(machine.on(exited(1), at(500)), []);
    assert_eq!(machine.deadline(), Some(at(1500)));
    assert_eq!(machine.on(Event::Time, at(1499)), []);
    assert_eq!(machine.on(Event::Time, at(1500)), [Action::CheckConditions]);
    assert_eq!(
        machine.on(Event::ConditionsHold, at(1500)),
        [Action::Launch { first: false }]
    );
}

#[test]
fn a_stop_is_a_signal_then_a_kill_then_patience() {
    let mut machine = started(&plain());
    assert_eq!(machine.on(Event::Stop, at(100)), [Action::Signal(15)]);
    assert_eq!(machine.on(Event::Time, at(10_099)), []);
    assert_eq!(machine.on(Event::Time, at(10_100)), [Action::KillTree]);
    assert_eq!(machine.state(), State::Stopping);
    assert_eq!(machine.on(exited(0), at(10_101)), []);
    assert_eq!(machine.state(), State::Stopped);
}

#[test]
fn what_the_main_process_leaves_behind_gets_the_rest_of_the_time_and_is_killed() {
    let mut machine = started(&plain());
    let _ = machine.on(Event::Stop, at(0));
    let left = Event::Exited {
        ending: Ending::Exit(0),
        others: true,
    };
    // The process group was asked with the main process; the others are asked now.
    assert_eq!(machine.on(left.clone(), at(5)), [Action::SignalStrays(15)]);
    assert_eq!((machine.state(), machine.pid()), (State::Stopping, None));
    assert_eq!(machine.on(Event::Time, at(10_000)), [Action::KillTree]);
    assert_eq!(machine.on(Event::TreeEmpty, at(10_001)), []);
    assert_eq!(machine.state(), State::Stopped);

    let mut alone = started(&plain());
    assert_eq!(
        alone.on(left, at(5)),
        [Action::KillTree],
        "nobody asked it to end"
    );
}

#[test]
fn a_restart_stops_and_starts_without_delay() {
    let mut machine = started(&plain());
    assert_eq!(machine.on(Event::Restart, at(1)), [Action::Signal(15)]);
    assert_eq!(machine.on(exited(0), at(2)), [Action::CheckConditions]);
    assert_eq!(machine.state(), State::Waiting);
}

#[test]
fn a_stop_overtakes_a_restart_and_a_start_overtakes_a_stop() {
    let mut machine = started(&plain());
    let _ = machine.on(Event::Restart, at(1));
    let _ = machine.on(Event::Stop, at(2));
    assert_eq!(machine.on(exited(0), at(3)), []);
    assert_eq!(machine.state(), State::Stopped);

    let mut machine = started(&plain());
    let _ = machine.on(Event::Stop, at(1));
    let _ = machine.on(Event::Start, at(2));
    assert_eq!(machine.on(exited(0), at(3)), [Action::CheckConditions]);
}

#[test]
fn with_notify_a_service_is_ready_when_it_says_so_or_fails_in_time() {
    let service = Service {
        notify: true,
        ..plain()
    };
    let mut machine = started(&service);
    assert_eq!(machine.state(), State::Starting);
    assert_eq!(machine.on(Event::Said(Notice::Ready), at(5)), []);
    assert_eq!(machine.state(), State::Running);

    let mut silent = started(&service);
    let _ = silent.on(Event::Said(Notice::ExtendTimeout(at(100_000))), at(0));
    assert_eq!(silent.on(Event::Time, at(99_999)), []);
    assert_eq!(silent.on(Event::Time, at(100_000)), [Action::Signal(15)]);
    assert_eq!(silent.on(exited(0), at(100_001)), []);
    assert_eq!(silent.state(), State::Restarting);
    assert!(matches!(
        silent.last_ending(),
        Some(Ending::StartTimeout(_))
    ));
}

#[test]
fn a_silent_service_is_aborted_and_started_anew() {
    let service = Service {
        watchdog: Some(at(1000)),
        ..plain()
    };
    let mut machine = started(&service);
    let _ = machine.on(Event::Said(Notice::Watchdog), at(900));
    assert_eq!(machine.on(Event::Time, at(1000)), []);
    assert_eq!(machine.on(Event::Time, at(1900)), [Action::Signal(6)]);
    let ending = Ending::Signal(6);
    let _ = machine.on(
        Event::Exited {
            ending,
            others: false,
        },
        at(1901),
    );
    assert_eq!(
        machine.last_ending().unwrap().to_string(),
        "watchdog: silent for 1s"
    );
    assert_eq!(machine.state(), State::Restarting);
}

#[test]
fn a_start_that_fails_is_a_failure_like_any() {
    let mut machine = Machine::new(&plain(), at(0));
    for failure in 1..=5 {
        let _ = machine.on(Event::Start, at(0));
        let _ = machine.on(Event::Time, at(1_000_000 * failure));
        let _ = machine.on(Event::ConditionsHold, at(1_000_000 * failure));
        let _ = machine.on(
            Event::LaunchFailed("fork: no".to_owned()),
            at(1_000_000 * failure),
        );
    }
    assert_eq!(
        machine.last_ending().unwrap().to_string(),
        "start failed: fork: no"
    );
}

#[test]
fn five_failures_are_shown_as_a_crash_loop_that_goes_on() {
    let mut machine = started(&plain());
    let mut now = at(0);
    for _ in 0..5 {
        let _ = machine.on(exited(1), now);
        now = machine.deadline().unwrap();
        if machine.state() == State::CrashLoop {
            break;
        }
        let _ = machine.on(Event::Time, now);
        let _ = machine.on(Event::ConditionsHold, now);
        let _ = machine.on(Event::Launched { pid: PID }, now);
        let _ = machine.on(Event::Executed, now);
    }
    assert_eq!((machine.state(), machine.failures()), (State::CrashLoop, 5));
    assert_eq!(machine.on(Event::Time, now), [Action::CheckConditions]);
}

#[test]
fn the_history_is_bounded_and_has_reasons() {
    let mut machine = started(&plain());
    for round in 0..100 {
        let _ = machine.on(Event::Restart, at(round));
        let _ = machine.on(exited(0), at(round));
        let _ = machine.on(Event::ConditionsHold, at(round));
        let _ = machine.on(Event::Launched { pid: PID }, at(round));
        let _ = machine.on(Event::Executed, at(round));
    }
    let last = machine.history().last().unwrap();
    assert_eq!(
        (machine.history().count(), last.state, &*last.why),
        (8, State::Running, "ready")
    );
}

/// What must hold of the world: which process lives, and whether somebody wants one.
#[derive(Default)]
struct Model {
    lives: Option<u32>,
    next: u32,
    wanted: bool,
    launch_pending: bool,
}

impl Model {
    fn obey(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Launch { .. } => {
                    assert_eq!(self.lives, None, "a second main process");
                    assert!(self.wanted, "started, and nobody wants it");
                    self.launch_pending = true;
                }
                Action::Signal(_) => assert!(self.lives.is_some(), "a signal to nobody"),
                Action::CheckConditions
                | Action::SignalMain(_)
                | Action::SignalStrays(_)
                | Action::KillTree => {}
            }
        }
    }

    fn event(&mut self, random: &mut Random) -> Event {
        if self.launch_pending {
            self.launch_pending = false;
            if random.below(5) == 0 {
                return Event::LaunchFailed("fork".to_owned());
            }
            self.next += 1;
            self.lives = Some(self.next);
            return Event::Launched { pid: self.next };
        }
        match random.below(12) {
            0 => Event::Start,
            1 => Event::Stop,
            2 => Event::Restart,
            3 | 4 => Event::ConditionsHold,
            5 if self.lives.is_some() => Event::Executed,
            6 | 7 if self.lives.take().is_some() => {
                let status = [0, 1, 125, 3][usize::try_from(random.below(4)).unwrap()];
                Event::Exited {
                    ending: Ending::Exit(status),
                    others: random.below(3) == 0,
                }
            }
            8 => Event::TreeEmpty,
            9 => Event::Said(Notice::Ready),
            10 => Event::Said(Notice::WatchdogTrigger),
            _ => Event::Time,
        }
    }
}

#[test]
fn random_sequences_never_lose_a_process_nor_make_a_second() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let policies = [Restart::OnFailure, Restart::Always, Restart::Never];
        let restart = policies[usize::try_from(random.below(3)).unwrap()];
        let service = Service {
            notify: random.below(2) == 0,
            watchdog: (random.below(2) == 0).then_some(at(1000)),
            ..plain().restart(restart)
        };
        let (mut machine, mut model, mut now) =
            (Machine::new(&service, at(0)), Model::default(), at(0));
        for _ in 0..300 {
            now += at(random.below(20_000));
            let event = model.event(&mut random);
            model.wanted = match event {
                Event::Start | Event::Restart => true,
                Event::Stop => false,
                _ => model.wanted,
            };
            let actions = machine.on(event, now);
            model.obey(&actions);
            assert_eq!(machine.pid(), model.lives, "seed {seed}");
            let settled = matches!(
                machine.phase(),
                Phase::Stopped | Phase::Finished | Phase::Waiting
            );
            let running = matches!(machine.phase(), Phase::Running { .. } | Phase::Launching);
            assert!(
                settled || running || machine.deadline().is_some(),
                "seed {seed}: hangs"
            );
        }
    }
}
