//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::eviction::{Candidate, Standing};
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
    /// Whose guesses are counted together.
    pub fn source(&self) -> Source {
        Source::from(self.address())
    }

    /// Whether the kernel vouches for it, when web runs as user `own`: root may do anything here anyway, and so may
    /// whoever runs web.
    pub fn is_vouched_for(&self, own: u32) -> bool {
        matches!(self, Self::Unix(uid) if *uid == 0 || *uid == own)
    }

    fn address(&self) -> IpAddr {
        match self {
            // Other users than root cannot connect, by the socket's mode; were it changed, it is as over loopback.
            Self::Unix(_) => Ipv4Addr::LOCALHOST.into(),
            Self::Tcp(address) => address.ip().to_canonical(),
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
    checking: AtomicBool,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(peer: Peer, since: Instant) -> Self {
        Self {
            peer,
            since,
            proven: AtomicBool::new(false),
            checking: AtomicBool::new(false),
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

    /// Notes that a password of this connection is being checked, until what is returned is dropped. HTTP/1.1 answers
    /// one request of a connection at a time, so there is one check at most.
    pub fn begin_check(&self) -> Check<'_> {
        self.checking.store(true, Ordering::Relaxed);
        Check(self)
    }

    /// What matters when there are too many connections.
    pub fn candidate(&self) -> Candidate {
        let standing = match (self.is_proven(), self.checking.load(Ordering::Relaxed)) {
            (true, _) => Standing::Proven,
            (false, true) => Standing::Checking,
            (false, false) => Standing::Stranger,
        };
        Candidate {
            address: self.peer.address(),
            since: self.since,
            standing,
        }
    }
}

/// A check of a connection's password that is under way.
#[derive(Debug)]
pub struct Check<'a>(&'a Connection);

impl Drop for Check<'_> {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::Relaxed);
    }
}
