//! What the DHCPv6 machine is told by routers, and what it says; pure.

use crate::message::v6::Request;

/// What routers on the link have said of DHCPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing: it is not used.
    None,
    /// Settings come from it (the "other" flag).
    Settings,
    /// Addresses come from it (the "managed" flag), and settings.
    Address,
}

/// What the shell is to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a message to all servers.
    Send(Request),
    /// The address or the settings have changed: look at [`Machine6::address`] and its kin.
    Changed,
    /// Log a line.
    Log(String),
}
