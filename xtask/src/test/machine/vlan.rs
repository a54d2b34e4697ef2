//! A machine with two network cards on one wire, and a kernel that knows VLANs.

use anyhow::Result;

use super::bare::{self, Bare};
use crate::workspace::Workspace;

/// The first process is `dhcp/examples/vlan.rs`, which plays the far side by the second card.
const VLAN: Bare = Bare {
    name: "vlan",
    package: "gokrazy-dhcp",
    daemon: "dhcp",
    judge: "vlan",
    modules: &["virtio_mmio", "virtio_net", "8021q"],
    machine: "-machine virt -cpu cortex-a53 -m 256M \
              -netdev hubport,id=near,hubid=0 -device virtio-net-device,netdev=near,mac=52:54:00:67:6b:0a \
              -netdev hubport,id=far,hubid=0 -device virtio-net-device,netdev=far,mac=52:54:00:67:6b:0b",
};

/// A lease is got inside one VLAN and fixed settings stand in another; one that someone removes is made anew, and
/// both go when dhcp ends, not when a second one is refused or a passing one gets no answer. What a killed one left goes
/// with the next, which takes over what is still asked for.
///
/// # Errors
/// What the first process, the builder or QEMU said.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    bare::play(workspace, &VLAN)
}
