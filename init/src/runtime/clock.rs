//! The two clocks; nobody else in init reads one.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::supervise::Moment;

/// The boot clock: how long the machine is up.
pub fn boot() -> Moment {
    read(ClockId::CLOCK_BOOTTIME)
}

/// The wall clock, in Unix milliseconds; it may jump.
pub fn wall_ms() -> i64 {
    i64::try_from(read(ClockId::CLOCK_REALTIME).as_millis()).unwrap_or(i64::MAX)
}

/// The wall clock as a duration since the epoch.
pub fn wall() -> Duration {
    read(ClockId::CLOCK_REALTIME)
}

fn read(id: ClockId) -> Duration {
    // Both clocks exist on every Linux that runs us; a clock that cannot be read stands still.
    clock_gettime(id).map(Duration::from).unwrap_or_default()
}
