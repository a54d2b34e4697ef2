//! A machine with a hardware clock (a PL031), which ntp reads and writes.

use anyhow::Result;

use super::bare::{self, Bare};
use crate::workspace::Workspace;

/// The first process is `ntp/examples/hardware_clock.rs`, which knows what the hardware clock begins with.
const HARDWARE_CLOCK: Bare = Bare {
    name: "hardware clock",
    package: "gokrazy-ntp",
    daemon: "ntp",
    judge: "hardware_clock",
    modules: &[],
    machine: "-machine virt -cpu cortex-a53 -m 256M -rtc base=2031-05-06T07:08:09",
};

/// With `--no-rtc` the clock starts at the build time; without it at the hardware clock's, which is written once a
/// server has told the time, and not before.
///
/// # Errors
/// What the first process, the builder or QEMU said.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    bare::play(workspace, &HARDWARE_CLOCK)
}
