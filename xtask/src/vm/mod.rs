//! Guests in QEMU, with QEMU playing the firmware: `cargo xtask run`, the machine tests and the benchmarks boot images
//! here.
//!
//! At each power on, and again at each reboot of the guest, the boot files are read out of the disk's own boot
//! partition ([`fat`], [`firmware`]), so what boots is what a device with that card would boot.
//! QEMU is run without its own reboot: it ends where the guest would start anew ([`guest`]).
//! The machine tests give the guest a network whose servers they run themselves ([`lan`]).
//! Emulated is not proven: QEMU has no boot ROM and no GPU firmware of a Pi.

pub(crate) mod console;
pub(crate) mod device_tree;
pub(crate) mod disk;
pub(crate) mod ext4;
pub(crate) mod fat;
pub(crate) mod firmware;
pub(crate) mod guest;
pub(crate) mod http;
pub(crate) mod lan;
pub(crate) mod monitor;
pub(crate) mod qemu;
