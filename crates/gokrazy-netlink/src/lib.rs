//! Links, addresses and routes over a synchronous `rtnetlink(7)` socket.
//!
//! Just what a network daemon without an async runtime needs: a [`Handle`] that changes and lists kernel state, and
//! a [`Monitor`] whose descriptor becomes readable when that state changes.
//! No policy lives here, and no caching.
//!
//! The codec is our own: the kernel's format is fixed, what we use of it fits in one file, and the crates that
//! cover all of it (`netlink-packet-route` with its traits, logging and derive machinery) are many times the size
//! of the daemon that would use them.
//!
//! | module | what |
//! |---|---|
//! | [`codec`] | messages and attributes as bytes; pure |
//! | [`types`], [`Event`] | links, addresses, routes and what happens to them, to and from messages; pure |
//! | [`Handle`], [`Monitor`] | the sockets |

pub mod codec;
mod event;
mod handle;
mod monitor;
pub mod types;

pub use event::Event;
pub use handle::Handle;
pub use monitor::{Groups, Monitor};
pub use types::{Address, Link, Route};

/// Lifetime in seconds that the kernel reads as "for ever" (`INFINITY_LIFE_TIME`).
pub const FOREVER: u32 = u32::MAX;
