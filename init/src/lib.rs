//! PID 1 as a library, and the modules behind the binaries `init`, `logd` and `web`.
//!
//! | module | what | who uses it |
//! |---|---|---|
//! | [`stage1`] | what runs in the initramfs: choose a slot, mount its root, switch to it | `init` |
//! | `web` (feature `web`) | the status page and the API, an unprivileged process of its own | `web` |
//!
//! PID 1 links no async runtime and parses nothing that came from the network.

pub mod logd;
pub mod runtime;
pub mod service;
pub mod stage1;
pub mod supervise;
#[cfg(feature = "web")]
pub mod web;
