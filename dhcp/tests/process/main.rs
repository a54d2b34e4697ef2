//! The built client in namespaces of its own: against a scripted server, against real ones, and at its flags.
//!
//! Needs root, `ip`, `setpriv` and the servers; a test that lacks one fails with the command that supplies it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod cli;
mod common;
mod edge;
mod exchange;
mod fixed;
mod flood;
mod interop;
mod kea6;
mod keep;
mod router;
mod six;
