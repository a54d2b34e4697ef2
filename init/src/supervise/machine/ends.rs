//! How runs end: by themselves, by a deadline, by request; and what follows.

use std::borrow::Cow;
use std::time::Duration;

use super::Machine;
use crate::service::{Restart, signals};
use crate::supervise::Moment;
use crate::supervise::ending::Ending;
use crate::supervise::phase::{Action, Phase, Rest, Then};

/// How long after a kill the rest of a tree may take to vanish; the kernel may have to wait for a disk.
const KILL_GRACE: Duration = Duration::from_secs(5);

impl Machine {
    pub(super) fn on_exited(&mut self, ending: Ending, others: bool, now: Moment) -> Vec<Action> {
        match self.phase.clone() {
            Phase::Starting { since, .. } | Phase::Running { since, .. } => {
                let ready = matches!(self.phase, Phase::Running { .. });
                let ending = self.as_promised(ending, ready);
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
                let own_will = matches!(then, Then::Judge { .. });
                let unready = then == (Then::Judge { ready: false });
                self.last_ending = Some(self.as_promised(ending, !unready));
                self.phase = Phase::Stopping {
                    rest: Rest::Others,
                    since,
                    until,
                    killed,
                    then,
                };
                match (others, own_will) {
                    (false, _) => self.on_tree_empty(now),
                    (true, true) => vec![Action::KillTree],
                    // Who left the process group has not been asked yet.
                    (true, false) if !killed => {
                        vec![Action::SignalStrays(self.policy.stop_signal)]
                    }
                    (true, false) => Vec::new(),
                }
            }
            Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Resting { .. } => Vec::new(),
        }
    }

    /// One that promised to say when it is ready, and ended well before that, has failed: those that wait for it wait
    /// for what never came (systemd judges `Type=notify` so). One that never starts again is a task, whose end they wait
    /// for.
    fn as_promised(&self, ending: Ending, ready: bool) -> Ending {
        let is_task = self.policy.restart == Restart::Never;
        if !ready && self.policy.notify && !is_task && ending == Ending::Exit(0) {
            Ending::Unready
        } else {
            ending
        }
    }

    pub(super) fn on_tree_empty(&mut self, now: Moment) -> Vec<Action> {
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
            Then::Judge { .. } => {
                if let Some(ending) = self.last_ending.clone() {
                    self.judge(ending, ran, now);
                }
                Vec::new()
            }
        }
    }

    pub(super) fn on_time(&mut self, now: Moment) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Resting { .. } => self.wait(now, "delay over"),
            Phase::Starting { pid, since, .. } => {
                let (pid, since) = (*pid, *since);
                let ending = Ending::StartTimeout(self.policy.start_timeout);
                let why = ending.to_string();
                self.end(pid, since, Then::Fail(ending), why, now)
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

    pub(super) fn hang(&mut self, pid: u32, since: Moment, now: Moment) -> Vec<Action> {
        let ending = Ending::Watchdog(self.policy.watchdog.unwrap_or_default());
        let why = ending.to_string();
        let mut actions = self.end(pid, since, Then::Fail(ending), why, now);
        // Instead of the stop signal, which a hung program would not heed: the one that leaves a trace.
        if let Some(Action::Signal(signal)) = actions.first_mut() {
            *signal = signals::ABRT;
        }
        actions
    }

    /// It says that it is about to end: it has as long as one that was told to, and nobody takes it for ready.
    pub(super) fn on_stopping(&mut self, pid: u32, since: Moment, now: Moment) {
        let ready = matches!(self.phase, Phase::Running { .. });
        let until = now.saturating_add(self.policy.stop_timeout);
        let phase = Phase::Stopping {
            rest: Rest::Main(pid),
            since,
            until,
            killed: false,
            then: Then::Judge { ready },
        };
        self.enter(phase, "ends by itself", now);
    }

    pub(super) fn end(
        &mut self,
        pid: u32,
        since: Moment,
        then: Then,
        why: impl Into<Cow<'static, str>>,
        now: Moment,
    ) -> Vec<Action> {
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

    /// Decides what follows a run that ended by itself.
    pub(super) fn judge(&mut self, ending: Ending, ran: Duration, now: Moment) {
        let why = ending.to_string();
        let restart = match self.policy.restart {
            _ if ending.asks_for_peace() => false,
            Restart::Always => true,
            Restart::OnFailure => ending.is_failure(),
            Restart::Never => false,
        };
        let phase = if restart {
            Phase::Resting {
                until: now.saturating_add(self.failures.pause(
                    &ending,
                    ran,
                    self.policy.delay,
                    self.policy.delay_max,
                )),
            }
        } else if ending.is_failure() {
            Phase::Stopped
        } else {
            Phase::Finished
        };
        self.last_ending = Some(ending);
        self.enter(phase, why, now);
    }
}
