//! How services live, decided without touching anything; pure.
//!
//! ```text
//!            start                    conditions hold            cloned, executed (and READY=1)
//!  Stopped ────────► Waiting ───────────────► Launching ──► Starting ───────────► Running
//!     ▲                 ▲                         │             │                    │
//!     │ stop            │ delay over, start       │ cannot      │ exit, timeout      │ exit, silence
//!     │                 │                         ▼             ▼                    ▼
//!     ├──────────── Resting ◄──────────────── failure ◄──────── the tree is killed ──┤
//!     │                                                                              │ stop
//!     └──────────── Stopping ◄───────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants, held by tests with random sequences:
//! - at most one main process lives per service, and one that lives is never forgotten;
//! - a service that was asked to stop starts again only when asked to start;
//! - every phase but `Stopped`, `Finished`, `Waiting` and a healthy `Running` has a deadline, so nothing hangs;
//! - at the end of a shutdown, no service has a process.
//!
//! | module | what |
//! |---|---|
//! | [`phase`] | the words: phases, events, actions |
//! | [`machine`] | one service: phase × event → phase and actions |
//! | [`backoff`] | how long to wait before a restart |
//! | [`ending`] | how a process ended, and whether that is a failure |
//! | [`notify`] | what a service says of itself (`sd_notify(3)`) |
//! | [`registry`] | all services: who waits for whom, requests |
//! | [`reload`] | tables that were read anew |
//! | `shutdown` | in which order they stop |
//!
//! Who obeys the actions is [`crate::runtime`].

pub mod backoff;
pub mod ending;
pub mod machine;
pub mod notify;
pub mod phase;
pub mod registry;
pub mod reload;
mod shutdown;

#[cfg(test)]
mod tests;

use std::time::Duration;

/// A moment on the boot clock (`CLOCK_BOOTTIME`), which no setting of the time moves.
pub type Moment = Duration;
