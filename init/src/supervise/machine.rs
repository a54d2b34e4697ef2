//! One service: phase × event → phase and actions; pure.

mod ends;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use gokrazy_core::service_status::{Change, State};

use super::Moment;
use super::backoff::Failures;
use super::ending::Ending;
use super::notify::Notice;
use super::phase::{Action, Event, Phase, Policy, Then};
use crate::service::Service;

/// How many changes of state are remembered.
const HISTORY: usize = 8;

/// A service's life.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    entered: Moment,
    starts: u32,
    failures: Failures,
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
            failures: Failures::default(),
            last_ending: None,
            status_text: None,
            history: VecDeque::new(),
        }
    }

    /// Lives by another description from now on.
    pub fn follow(&mut self, service: &Service) {
        self.policy = service.into();
    }

    /// Where it is in its life.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The main process, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.phase.pid()
    }

    /// Whether a process of it may live.
    pub fn has_processes(&self) -> bool {
        self.phase.has_processes()
    }

    /// Whether others that wait for it may start.
    pub fn is_ready(&self) -> bool {
        self.phase.is_ready()
    }

    /// When [`Event::Time`] is due, if ever.
    pub fn deadline(&self) -> Option<Moment> {
        self.phase.deadline()
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
        self.failures.in_a_row()
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
            Phase::Running {
                reloading: true, ..
            } => State::Reloading,
            Phase::Running { .. } => State::Running,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Resting { .. } if self.failures.are_a_loop() => State::CrashLoop,
            Phase::Resting { .. } => State::Restarting,
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
                self.failures = Failures::default();
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
                self.failures = Failures::default();
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
                reloading: false,
            },
            "ready",
            now,
        );
    }

    fn on_said(&mut self, notice: Notice, now: Moment) -> Vec<Action> {
        match notice {
            Notice::Status(text) => self.status_text = Some(text),
            Notice::Ready => self.on_ready(now),
            Notice::Reloading => self.on_reloading(now),
            Notice::Watchdog => {
                if let Phase::Running { watchdog, .. } = &mut self.phase {
                    *watchdog = self.policy.watchdog.map(|limit| now.saturating_add(limit));
                }
            }
            Notice::WatchdogTrigger => {
                if let Phase::Running { pid, since, .. } = self.phase {
                    return self.hang(pid, since, now);
                }
            }
            Notice::Stopping => {
                if let Phase::Starting { pid, since, .. } | Phase::Running { pid, since, .. } =
                    self.phase
                {
                    self.on_stopping(pid, since, now);
                }
            }
            Notice::ExtendTimeout(more) => {
                if let Phase::Starting {
                    until: Some(until), ..
                }
                | Phase::Stopping {
                    until,
                    killed: false,
                    ..
                } = &mut self.phase
                {
                    *until = (*until).max(now.saturating_add(more));
                }
            }
        }
        Vec::new()
    }

    fn on_ready(&mut self, now: Moment) {
        if let Phase::Starting { pid, since, .. }
        | Phase::Running {
            pid,
            since,
            reloading: true,
            ..
        } = self.phase
        {
            self.run(pid, since, now);
        }
    }

    /// It stays ready for those that wait for it; its watchdog starts anew, as it does at the end.
    fn on_reloading(&mut self, now: Moment) {
        let Phase::Running {
            pid,
            since,
            reloading: false,
            ..
        } = self.phase
        else {
            return;
        };
        let phase = Phase::Running {
            pid,
            since,
            watchdog: self.policy.watchdog.map(|limit| now.saturating_add(limit)),
            reloading: true,
        };
        self.enter(phase, "reads its configuration anew", now);
    }

    fn wait(&mut self, now: Moment, why: &'static str) -> Vec<Action> {
        self.enter(Phase::Waiting, why, now);
        vec![Action::CheckConditions]
    }

    fn enter(&mut self, phase: Phase, why: impl Into<Cow<'static, str>>, now: Moment) {
        self.phase = phase;
        self.entered = now;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Change {
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            state: self.state(),
            why: why.into(),
        });
    }
}

#[cfg(test)]
mod tests;
