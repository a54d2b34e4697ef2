//! One service: phase × event → phase and actions; pure.

use std::collections::VecDeque;
use std::time::Duration;

use gokrazy_core::service_status::{Change, State};

use super::Moment;
use super::ending::Ending;
use super::notify::Notice;
use super::phase::{Action, Event, Phase, Policy, Rest, Then};
use crate::service::{Restart, Service, signals};

/// How long a service must have run to count as healthy again.
const HEALTHY: Duration = Duration::from_secs(60);

/// So many failures in a row are a crash loop.
const CRASH_LOOP: u32 = 5;

/// How long after a kill the rest of a tree may take to vanish; the kernel may have to wait for a disk.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How many changes of state are remembered.
const HISTORY: usize = 8;

/// A service's life.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    entered: Moment,
    starts: u32,
    failures: u32,
    last_ending: Option<Ending>,
    status_text: Option<String>,
    history: VecDeque<Change>,
}

impl Machine {
    /// A service that does not run.
    pub fn new(service: &Service, now: Moment) -> Self {
        Self {
            policy: service.into(),
            phase: Phase::Stopped,
            entered: now,
            starts: 0,
            failures: 0,
            last_ending: None,
            status_text: None,
            history: VecDeque::new(),
        }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The main process, while it lives.
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Starting { pid, .. }
            | Phase::Running { pid, .. }
            | Phase::Stopping {
                rest: Rest::Main(pid),
                ..
            } => Some(pid),
            Phase::Stopping {
                rest: Rest::Others, ..
            }
            | Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Resting { .. } => None,
        }
    }

    /// Whether a process of it may live.
    pub fn has_processes(&self) -> bool {
        self.pid().is_some() || matches!(self.phase, Phase::Stopping { .. } | Phase::Launching)
    }

    /// Whether others that wait for it may start.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Finished)
    }

    /// When it entered its phase.
    pub fn entered(&self) -> Moment {
        self.entered
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How its last run ended.
    pub fn last_ending(&self) -> Option<&Ending> {
        self.last_ending.as_ref()
    }

    /// What it last said of itself.
    pub fn status_text(&self) -> Option<&str> {
        self.status_text.as_deref()
    }

    /// Its last changes of state, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Change> {
        self.history.iter()
    }

    /// The state as it is published.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Finished => State::Finished,
            Phase::Waiting => State::Waiting,
            Phase::Launching | Phase::Starting { .. } => State::Starting,
            Phase::Running { .. } => State::Running,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Resting { .. } if self.failures >= CRASH_LOOP => State::CrashLoop,
            Phase::Resting { .. } => State::Restarting,
        }
    }

    /// When [`Event::Time`] is due, if ever.
    pub fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Starting { until, .. } => until,
            Phase::Running { watchdog, .. } => watchdog,
            Phase::Stopping { until, .. } | Phase::Resting { until } => Some(until),
            Phase::Stopped | Phase::Finished | Phase::Waiting | Phase::Launching => None,
        }
    }

    /// Takes an event in; the actions are in the order in which they have to be done.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Start => self.on_start(now),
            Event::Stop => self.on_stop(now),
            Event::Restart => self.on_restart(now),
            Event::ConditionsHold => self.on_conditions(now),
            Event::Launched { pid } => self.on_launched(pid, now),
            Event::LaunchFailed(why) => self.on_launch_failed(why, now),
            Event::Executed => self.on_executed(now),
            Event::Exited { ending, others } => self.on_exited(ending, others, now),
            Event::TreeEmpty => self.on_tree_empty(now),
            Event::Said(notice) => self.on_said(notice, now),
            Event::Time => self.on_time(now),
        }
    }

    fn on_start(&mut self, now: Moment) -> Vec<Action> {
        match &mut self.phase {
            Phase::Stopped | Phase::Finished | Phase::Resting { .. } => {
                self.failures = 0;
                self.wait(now, "asked to start")
            }
            Phase::Stopping { then, .. } => {
                *then = Then::Start;
                Vec::new()
            }
            Phase::Waiting | Phase::Launching | Phase::Starting { .. } | Phase::Running { .. } => {
                Vec::new()
            }
        }
    }

    fn on_stop(&mut self, now: Moment) -> Vec<Action> {
        match &mut self.phase {
            Phase::Starting { pid, since, .. } | Phase::Running { pid, since, .. } => {
                let (pid, since) = (*pid, *since);
                self.end(pid, since, Then::Stop, "asked to stop", now)
            }
            Phase::Stopping { then, .. } => {
                *then = Then::Stop;
                Vec::new()
            }
            Phase::Waiting | Phase::Launching | Phase::Resting { .. } | Phase::Finished => {
                self.enter(Phase::Stopped, "asked to stop", now);
                Vec::new()
            }
            Phase::Stopped => Vec::new(),
        }
    }

    fn on_restart(&mut self, now: Moment) -> Vec<Action> {
        match &mut self.phase {
            Phase::Starting { pid, since, .. } | Phase::Running { pid, since, .. } => {
                let (pid, since) = (*pid, *since);
                self.failures = 0;
                self.end(pid, since, Then::Start, "asked to restart", now)
            }
            Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Stopping { .. }
            | Phase::Resting { .. } => self.on_start(now),
        }
    }

    fn on_conditions(&mut self, now: Moment) -> Vec<Action> {
        if self.phase != Phase::Waiting {
            return Vec::new();
        }
        let first = self.starts == 0;
        self.starts = self.starts.saturating_add(1);
        self.status_text = None;
        self.phase = Phase::Launching;
        self.entered = now;
        vec![Action::Launch { first }]
    }

    fn on_launched(&mut self, pid: u32, now: Moment) -> Vec<Action> {
        // Whoever stopped the service between the decision and the process gets what was asked for.
        let stopped = self.phase != Phase::Launching;
        let limit = self.policy.start_timeout;
        let until = (!limit.is_zero()).then(|| now.saturating_add(limit));
        self.enter(
            Phase::Starting {
                pid,
                since: now,
                until,
            },
            "started",
            now,
        );
        if stopped {
            self.on_stop(now)
        } else {
            Vec::new()
        }
    }

    fn on_launch_failed(&mut self, why: String, now: Moment) -> Vec<Action> {
        if self.phase == Phase::Launching {
            self.judge(Ending::StartFailed(why), Duration::ZERO, now);
        }
        Vec::new()
    }

    fn on_executed(&mut self, now: Moment) -> Vec<Action> {
        match self.phase {
            Phase::Starting { pid, since, .. } if !self.policy.notify => {
                self.run(pid, since, now);
            }
            Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Resting { .. } => {}
        }
        Vec::new()
    }

    fn run(&mut self, pid: u32, since: Moment, now: Moment) {
        let watchdog = self.policy.watchdog.map(|limit| now.saturating_add(limit));
        self.enter(
            Phase::Running {
                pid,
                since,
                watchdog,
            },
            "ready",
            now,
        );
    }

    fn on_exited(&mut self, ending: Ending, others: bool, now: Moment) -> Vec<Action> {
        match self.phase.clone() {
            Phase::Starting { since, .. } | Phase::Running { since, .. } => {
                self.judge(ending, now.saturating_sub(since), now);
                if others {
                    vec![Action::KillTree]
                } else {
                    Vec::new()
                }
            }
            Phase::Stopping {
                since,
                until,
                killed,
                then,
                ..
            } => {
                self.last_ending = Some(ending);
                self.phase = Phase::Stopping {
                    rest: Rest::Others,
                    since,
                    until,
                    killed,
                    then,
                };
                if others {
                    Vec::new()
                } else {
                    self.on_tree_empty(now)
                }
            }
            Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Resting { .. } => Vec::new(),
        }
    }

    fn on_tree_empty(&mut self, now: Moment) -> Vec<Action> {
        let Phase::Stopping {
            rest: Rest::Others,
            since,
            then,
            ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let ran = now.saturating_sub(*since);
        match then.clone() {
            Then::Stop => {
                self.enter(Phase::Stopped, "gone", now);
                Vec::new()
            }
            Then::Start => self.wait(now, "gone"),
            Then::Fail(ending) => {
                self.judge(ending, ran, now);
                Vec::new()
            }
        }
    }

    fn on_said(&mut self, notice: Notice, now: Moment) -> Vec<Action> {
        match (notice, &mut self.phase) {
            (Notice::Status(text), _) => self.status_text = Some(text),
            (Notice::Ready, Phase::Starting { pid, since, .. }) => {
                let (pid, since) = (*pid, *since);
                self.run(pid, since, now);
            }
            (Notice::Watchdog, Phase::Running { watchdog, .. }) => {
                *watchdog = self.policy.watchdog.map(|limit| now.saturating_add(limit));
            }
            (Notice::WatchdogTrigger, Phase::Running { pid, since, .. }) => {
                let (pid, since) = (*pid, *since);
                return self.hang(pid, since, now);
            }
            (
                Notice::ExtendTimeout(more),
                Phase::Starting {
                    until: Some(until), ..
                },
            ) => {
                *until = (*until).max(now.saturating_add(more));
            }
            (
                Notice::ExtendTimeout(more),
                Phase::Stopping {
                    until,
                    killed: false,
                    ..
                },
            ) => {
                *until = (*until).max(now.saturating_add(more));
            }
            (
                Notice::Ready
                | Notice::Watchdog
                | Notice::WatchdogTrigger
                | Notice::ExtendTimeout(_)
                | Notice::Reloading
                | Notice::Stopping,
                _,
            ) => {}
        }
        Vec::new()
    }

    fn on_time(&mut self, now: Moment) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Resting { .. } => self.wait(now, "delay over"),
            Phase::Starting { pid, since, .. } => {
                let (pid, since) = (*pid, *since);
                let ending = Ending::StartTimeout(self.policy.start_timeout);
                let why = ending.to_string();
                self.end(pid, since, Then::Fail(ending), &why, now)
            }
            Phase::Running { pid, since, .. } => {
                let (pid, since) = (*pid, *since);
                self.hang(pid, since, now)
            }
            Phase::Stopping { until, killed, .. } if !*killed => {
                *killed = true;
                *until = now.saturating_add(KILL_GRACE);
                vec![Action::KillTree]
            }
            // Unkillable: the kernel holds it. Its end is still awaited while the main process lives; what it left
            // behind is given up.
            Phase::Stopping {
                rest: Rest::Main(_),
                until,
                ..
            } => {
                *until = now.saturating_add(KILL_GRACE);
                vec![Action::KillTree]
            }
            Phase::Stopping {
                rest: Rest::Others, ..
            } => self.on_tree_empty(now),
            Phase::Stopped | Phase::Finished | Phase::Waiting | Phase::Launching => Vec::new(),
        }
    }

    fn hang(&mut self, pid: u32, since: Moment, now: Moment) -> Vec<Action> {
        let ending = Ending::Watchdog(self.policy.watchdog.unwrap_or_default());
        let why = ending.to_string();
        let mut actions = self.end(pid, since, Then::Fail(ending), &why, now);
        // Instead of the stop signal, which a hung program would not heed: the one that leaves a trace.
        if let Some(Action::Signal(signal)) = actions.first_mut() {
            *signal = signals::ABRT;
        }
        actions
    }

    fn end(&mut self, pid: u32, since: Moment, then: Then, why: &str, now: Moment) -> Vec<Action> {
        let until = now.saturating_add(self.policy.stop_timeout);
        let rest = Rest::Main(pid);
        self.enter(
            Phase::Stopping {
                rest,
                since,
                until,
                killed: false,
                then,
            },
            why,
            now,
        );
        vec![Action::Signal(self.policy.stop_signal)]
    }

    fn wait(&mut self, now: Moment, why: &str) -> Vec<Action> {
        self.enter(Phase::Waiting, why, now);
        vec![Action::CheckConditions]
    }

    /// Decides what follows a run that ended by itself.
    fn judge(&mut self, ending: Ending, ran: Duration, now: Moment) {
        let why = ending.to_string();
        let restart = match self.policy.restart {
            _ if ending.asks_for_peace() => false,
            Restart::Always => true,
            Restart::OnFailure => ending.is_failure(),
            Restart::Never => false,
        };
        let phase = if restart {
            Phase::Resting {
                until: now.saturating_add(self.pause(&ending, ran)),
            }
        } else if ending.is_failure() {
            Phase::Stopped
        } else {
            Phase::Finished
        };
        self.last_ending = Some(ending);
        self.enter(phase, &why, now);
    }

    /// The delay before the next start: doubled with each failure in a row, up to the longest.
    fn pause(&mut self, ending: &Ending, ran: Duration) -> Duration {
        if !ending.is_failure() || ran >= HEALTHY {
            self.failures = 0;
        }
        let doublings = self.failures.min(31);
        if ending.is_failure() {
            self.failures = self.failures.saturating_add(1);
        }
        let delay = self.policy.delay.saturating_mul(1 << doublings);
        delay.min(self.policy.delay_max)
    }

    fn enter(&mut self, phase: Phase, why: &str, now: Moment) {
        self.phase = phase;
        self.entered = now;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Change {
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            state: self.state(),
            why: why.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
