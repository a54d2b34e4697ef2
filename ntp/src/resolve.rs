//! Name lookups by the C library, each in a thread of its own, so that one that hangs holds up nobody.
//!
//! A source has at most three lookups under way ([`crate::names`] sees to it), so the threads are as bounded as the
//! sources; each ends with its lookup, which the resolver's own timeouts bound.
//! Tested against name servers that fail and hang, by `tests/network.rs`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::names::Spec;

/// What `getaddrinfo(3)` needs, with room for the large buffers of some of its modules.
const STACK: usize = 256 * 1024;

/// A lookup's end: what was asked, and the addresses; none on any failure.
pub type Looked = (Spec, Vec<SocketAddr>);

/// Lookups under way.
#[derive(Debug)]
pub struct Resolver {
    done: Receiver<Looked>,
    report: Sender<Looked>,
    bell: UnixStream,
    ring: UnixStream,
}

impl Resolver {
    /// No lookup yet.
    ///
    /// # Errors
    /// The errno of making a socket pair.
    pub fn new() -> io::Result<Self> {
        let (done, report) = {
            let (report, done) = channel();
            (done, report)
        };
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Self {
            done,
            report,
            bell,
            ring,
        })
    }

    /// Readable once a lookup has ended.
    pub fn bell(&self) -> &UnixStream {
        &self.bell
    }

    /// Starts a lookup.
    ///
    /// # Errors
    /// The errno, if no thread could be made.
    pub fn start(&self, spec: Spec) -> io::Result<()> {
        let report = self.report.clone();
        let mut ring = self.ring.try_clone()?;
        let lookup = move || {
            let addresses = addresses(&spec);
            // Both fail only when the daemon is gone, and with it the need for an answer.
            let _ = report.send((spec, addresses));
            let _ = ring.write_all(&[0]);
        };
        thread::Builder::new()
            .stack_size(STACK)
            .spawn(lookup)
            .map(drop)
    }

    /// The lookups that have ended.
    pub fn finished(&mut self) -> Vec<Looked> {
        let mut rings = [0; 64];
        // Drained so that the bell falls silent; the answers are counted by the channel.
        while matches!(self.bell.read(&mut rings), Ok(1..)) {}
        self.done.try_iter().collect()
    }
}

/// All addresses of a name, in the order of RFC 6724 that the C library gives; blocks.
pub fn addresses(spec: &Spec) -> Vec<SocketAddr> {
    match spec {
        Spec::Address(address) => vec![*address],
        Spec::Name(name, port) => (name.as_str(), *port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .unwrap_or_default(),
    }
}
