//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::throttle::Source;

/// The other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on the network.
    Tcp(SocketAddr),
    /// A process on this machine, by the user id that the kernel vouches for (`SO_PEERCRED`, unix(7)).
    Unix(u32),
}

impl Peer {
    /// Whose guesses and connections are counted together.
    pub fn source(&self) -> Source {
        match self {
            // Other users than root cannot connect, by the socket's mode; were it changed, it is as over loopback.
            Self::Unix(_) => Source::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
            Self::Tcp(address) => Source::from(address.ip()),
        }
    }
}

/// One connection; requests carry it as an extension.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// When it was accepted.
    pub since: Instant,
    proven: AtomicBool,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(peer: Peer, since: Instant) -> Self {
        Self {
            peer,
            since,
            proven: AtomicBool::new(false),
        }
    }

    /// Notes that a request on this connection has shown the password, or that the kernel vouches for its peer.
    pub fn set_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}
