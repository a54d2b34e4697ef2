//! The clock is never before the time at which the image was built: a Pi without a battery starts in 1970.
//!
//! ntp refines this by the time that it saved; neither makes the clock count as synchronised.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::{problem, say};
use crate::kmsg::Priority;

/// Sets the clock to the time of `stamp`, a file that the image builder dated, if the clock is before it.
#[expect(
    clippy::disallowed_methods,
    reason = "boot is the one who reads the clock here"
)]
pub(super) fn apply(stamp: &Path, problems: &mut Vec<String>) {
    let Some(floor) = fs::metadata(stamp)
        .and_then(|metadata| metadata.modified())
        .ok()
    else {
        return;
    };
    if SystemTime::now() >= floor {
        return;
    }
    let since_epoch = floor.duration_since(UNIX_EPOCH).unwrap_or_default();
    match clock_settime(
        ClockId::CLOCK_REALTIME,
        TimeSpec::from_duration(since_epoch),
    ) {
        Ok(()) => say(
            Priority::Info,
            "the clock was before the build's time and was set to it",
        ),
        Err(errno) => problem(
            problems,
            &format!("set the clock to the build's time: {errno}"),
        ),
    }
}
