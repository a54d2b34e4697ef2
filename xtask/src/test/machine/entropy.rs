//! A machine without any hardware generator, where the kernel's own cold pool judges randomd.

use anyhow::Result;

use super::bare::{self, Bare};
use crate::workspace::Workspace;

/// The first process is `randomd/examples/cold_pool.rs`; the device tree brings no seed, and the processor has no
/// generator.
const COLD_POOL: Bare = Bare {
    name: "cold pool",
    package: "gokrazy-randomd",
    daemon: "randomd",
    judge: "cold_pool",
    modules: &[],
    machine: "-machine virt,dtb-randomness=off -cpu cortex-a53 -m 256M",
};

/// Before a load `getrandom(GRND_NONBLOCK)` would block; after a load without credit it still does; after one with
/// credit it does not.
///
/// # Errors
/// What the first process, the builder or QEMU said.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    bare::play(workspace, &COLD_POOL)
}
