//! The shared vocabulary of gokrazy-rs: paths, file formats, the disk's layout and the slot table; and what
//! applications ask of the machine that they run on.
//!
//! Applications find what gokrazy's package of that name offers at the root of this crate: [`boot()`],
//! [`dont_start_on_boot()`], [`is_in_private_net`], [`machine_id()`], [`model()`], [`private_interface_addrs`],
//! [`public_interface_addrs`], [`read_sbom`], [`wait_for()`], [`wait_for_clock`], [`HTTP_UNIX_SOCKET`].
//!
//! Daemons and applications meet in files, so what they share is the *format* of those files, as types that
//! parse and render.
//! No runtime, no web framework, no policy of a single daemon lives here.
//!
//! | module | what |
//! |---|---|
//! | [`paths`] | every well-known path, spelled once |
//! | [`exit`] | exit codes and their meaning |
//! | [`atomic`], [`regular_file`] | replace a file whole; read one where others may write |
//! | [`keyvalue`] | the `key=value` line format that a shell can source |
//! | [`lease`], [`clock`], [`boot_info`], [`service_status`], [`addresses`] | one file format each |
//! | [`log_record`] | one line of a log |
//! | [`control`] | requests to PID 1 and its replies |
//! | [`layout`] | where the partitions and the slot table lie |
//! | [`slots`] | which root boots next, and how often it may try |
//! | [`mod@boot`] | stage 2: from a mounted root to a machine on which services can run |
//! | [`boot_disk`], [`gpt`], [`fat`], [`superblock`], [`cmdline`] | finding disks and what lies on them |
//! | [`hotplug`], [`uevent`], [`modules`], [`module_crew`], [`module_loader`] | kernel modules for devices |
//! | [`kmsg`] | lines for the kernel's log |
//! | [`ifaddr`], [`mod@machine_id`], [`mod@model`], [`sbom`] | what this machine is |
//! | [`mod@wait_for`], [`mod@dont_start_on_boot`] | when an application starts |
//! | [`users`] | user ids of our daemons |

pub mod addresses;
pub mod atomic;
pub mod boot;
pub mod boot_disk;
pub mod boot_info;
pub mod clock;
pub mod cmdline;
pub mod control;
pub mod dont_start_on_boot;
pub mod exit;
pub mod fat;
pub mod gpt;
pub mod hotplug;
pub mod ifaddr;
pub mod keyvalue;
pub mod kmsg;
pub mod layout;
pub mod lease;
pub mod log_record;
pub mod machine_id;
pub mod model;
pub mod module_crew;
pub mod module_loader;
pub mod modules;
pub mod mount_status;
pub mod paths;
pub mod regular_file;
pub mod sbom;
pub mod service_status;
pub mod slots;
pub mod superblock;
pub mod uevent;
pub mod users;
pub mod wait_for;

pub use boot::boot;
pub use dont_start_on_boot::dont_start_on_boot;
pub use ifaddr::{is_in_private_net, private_interface_addrs, public_interface_addrs};
pub use machine_id::machine_id;
pub use model::model;
pub use paths::HTTP_UNIX_SOCKET;
pub use sbom::read_sbom;
pub use wait_for::{wait_for, wait_for_clock};
