//! What the machine is told and what it says: its events, actions, and what it is made with; pure.

use std::net::Ipv4Addr;

use crate::conflict::Check;
use crate::frame::Arp;
use crate::message::{Reply, Request};
use crate::moment::Moment;
use crate::terms::{Grant, Terms};

/// What stays the same as long as the machine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Our hardware address.
    pub mac: [u8; 6],
    /// How addresses are tried.
    pub check: Check,
    /// Whether we asked for rapid commit.
    pub rapid_commit: bool,
    /// Whether we told servers that we can do without IPv4.
    pub ipv6_only: bool,
    /// Whether former addresses may be asked for (not under RFC 7844).
    pub remember: bool,
    /// Whether to stop at the first offer.
    pub only_offer: bool,
}

/// A lease of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Nothing is known.
    None,
    /// An address whose lease is over, or may be: worth asking for.
    Former(Ipv4Addr),
    /// A lease that runs until the moment given, if that is known.
    Lease(Ipv4Addr, Option<Moment>),
    /// A lease that still stands configured in the kernel.
    Held(Box<Grant>),
}

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The link can carry packets.
    LinkUp,
    /// The link no longer can.
    LinkDown,
    /// A reply arrived.
    Reply(Reply),
    /// An ARP packet arrived.
    Arp(Arp),
    /// The time of [`Machine::deadline`] has come.
    Deadline,
    /// Someone wants the lease renewed now.
    Renew,
    /// The end; the lease is given back or kept for the next run.
    Stop(Ending),
}

/// What becomes of the lease at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Kept for the next run.
    Keep,
    /// Kept, and left configured until it ends.
    Leave,
    /// Given back to the server.
    Release,
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By broadcast, from this address.
    Broadcast(Ipv4Addr),
    /// To a server, from our address.
    Unicast(Ipv4Addr),
}

/// What the shell is to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Send(Request, Route),
    /// Send an ARP packet.
    Arp(Arp),
    /// Configure this lease, in place of any other, and publish it.
    Configure(Box<Grant>),
    /// Remove what is configured.
    Withdraw(Reason),
    /// Keep the lease for the next run.
    Save(Box<Grant>),
    /// Forget the saved lease.
    Forget,
    /// Show an offer ([`Profile::only_offer`]).
    Show(Box<Terms>),
    /// Log a line.
    Log(String),
}

/// Why a configuration is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The lease is over.
    Expired,
    /// The server refused it.
    Refused,
    /// Another host has the address.
    Conflict,
    /// The network wants hosts without IPv4.
    Ipv6Only,
    /// We stop.
    Stopped,
}

impl Reason {
    /// The word for hooks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Ipv6Only => "ipv6-only",
            Self::Stopped => "stopped",
        }
    }
}
