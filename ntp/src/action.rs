//! What the machine says to the shell, and the shell to the machine; pure.
//!
//! Whoever adds an action finds the one place that obeys it in [`crate::daemon`].
//! No tests of its own: it has no behaviour.

use std::net::SocketAddr;

use gokrazy_core::clock::ClockState;
use rsntp::LeapIndicator;

use crate::discipline::Correction;
use crate::names::Spec;
use crate::server::ServerId;
use crate::wall::{Mono, Wall};

/// What the shell is to do.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask a server.
    Send(ServerId, SocketAddr),
    /// Stop listening for a server's answer.
    Forget(ServerId),
    /// Look up a name; then [`Machine::on_names`](crate::machine::Machine::on_names).
    Resolve(Spec),
    /// Set the clock forward by so many nanoseconds; then [`Machine::on_applied`](crate::machine::Machine::on_applied).
    Step(i64),
    /// Steer the clock; then [`Machine::on_applied`](crate::machine::Machine::on_applied).
    Steer(Steering),
    /// Publish the state.
    Publish(ClockState),
    /// Write the hardware clock.
    WriteRtc,
    /// Tell the operator.
    Log(String),
}

/// A correction, with what the kernel is told beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steering {
    /// Frequency and phase.
    pub correction: Correction,
    /// Bound of the clock's error, in nanoseconds.
    pub bound: u64,
    /// What the servers say of leap seconds.
    pub leap: LeapIndicator,
}

/// What the shell has done to the clock, if the kernel let it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Applied {
    /// A step.
    Step(i64),
    /// A steering.
    Steer(Steering),
}

/// The two clocks at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time.
    pub now: Mono,
    /// Civil time as our clock has it.
    pub wall: Wall,
}
