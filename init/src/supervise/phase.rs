//! The words of a service's life: phases, events, actions, and what of its description decides; pure.

use std::time::Duration;

use super::Moment;
use super::ending::Ending;
use super::notify::Notice;
use crate::service::{Restart, Service};

/// Where a service is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not meant to run.
    Stopped,
    /// Ended with exit status 0, and not meant to run again.
    Finished,
    /// Meant to run as soon as its conditions hold.
    Waiting,
    /// A process is being made; ends with the next event.
    Launching,
    /// The main process lives and is not ready yet.
    Starting {
        /// The main process.
        pid: u32,
        /// When it was made.
        since: Moment,
        /// When it must be ready; `None`: it may take for ever.
        until: Option<Moment>,
    },
    /// The main process lives and is ready.
    Running {
        /// The main process.
        pid: u32,
        /// When it was made.
        since: Moment,
        /// When it must have given a sign of life.
        watchdog: Option<Moment>,
        /// Whether it reads its configuration anew; it says when it is through.
        reloading: bool,
    },
    /// It was told to end, or is being ended.
    Stopping {
        /// What is left of it.
        rest: Rest,
        /// When it was made.
        since: Moment,
        /// When patience ends: first the tree is killed, then it is given up.
        until: Moment,
        /// Whether the tree has been killed.
        killed: bool,
        /// What follows.
        then: Then,
    },
    /// It failed, and will be started again.
    Resting {
        /// When.
        until: Moment,
    },
}

impl Phase {
    /// The main process, while it lives.
    pub fn pid(&self) -> Option<u32> {
        match *self {
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
        self.pid().is_some() || matches!(self, Phase::Stopping { .. } | Phase::Launching)
    }

    /// Whether others that wait for it may start.
    pub fn is_ready(&self) -> bool {
        matches!(self, Phase::Running { .. } | Phase::Finished)
    }

    /// When [`Event::Time`] is due, if ever.
    pub fn deadline(&self) -> Option<Moment> {
        match *self {
            Phase::Starting { until, .. } => until,
            Phase::Running { watchdog, .. } => watchdog,
            Phase::Stopping { until, .. } | Phase::Resting { until } => Some(until),
            Phase::Stopped | Phase::Finished | Phase::Waiting | Phase::Launching => None,
        }
    }
}

/// What is left of a service that is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// The main process, and perhaps others.
    Main(u32),
    /// Processes that it left behind.
    Others,
}

/// What follows when a service that is being ended is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It stays stopped.
    Stop,
    /// It starts anew.
    Start,
    /// Its end counts as this failure.
    Fail(Ending),
    /// It ends of its own will, and how it does decides.
    Judge {
        /// Whether it had been ready.
        ready: bool,
    },
}

/// What happens to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody, or the boot, wants it to run.
    Start,
    /// Somebody wants it not to run.
    Stop,
    /// Somebody wants it to run anew.
    Restart,
    /// Everything it waits for holds.
    ConditionsHold,
    /// Its process was made.
    Launched {
        /// The main process.
        pid: u32,
    },
    /// No process could be made.
    LaunchFailed(String),
    /// The process runs the service's program.
    Executed,
    /// The main process ended.
    Exited {
        /// How.
        ending: Ending,
        /// Whether other processes of the service live on.
        others: bool,
    },
    /// No process of the service is left.
    TreeEmpty,
    /// It said something of itself.
    Said(Notice),
    /// A deadline may have passed.
    Time,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// See whether its conditions hold, and say so.
    CheckConditions,
    /// Make its process; `first`: for the first time.
    Launch {
        /// Whether the environment says so.
        first: bool,
    },
    /// Send a signal to its process group.
    Signal(i32),
    /// Send a signal to those of its processes that left its process group.
    SignalStrays(i32),
    /// Send a signal to its main process alone.
    SignalMain(i32),
    /// Kill every process of it.
    KillTree,
}

/// What of a service's description decides over its life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) restart: Restart,
    pub(super) delay: Duration,
    pub(super) delay_max: Duration,
    pub(super) start_timeout: Duration,
    pub(super) stop_signal: i32,
    pub(super) stop_timeout: Duration,
    pub(super) notify: bool,
    pub(super) watchdog: Option<Duration>,
}

impl From<&Service> for Policy {
    fn from(service: &Service) -> Self {
        Self {
            restart: service.restart,
            delay: service.restart_delay,
            delay_max: service.restart_delay_max,
            start_timeout: service.start_timeout,
            stop_signal: service.stop_signal,
            stop_timeout: service.stop_timeout,
            notify: service.notify,
            watchdog: service.watchdog,
        }
    }
}
