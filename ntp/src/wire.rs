//! The sockets: one per request, on a port of its own (RFC 9109), connected so that the kernel drops what comes from
//! elsewhere.
//!
//! What an answer means is [`crate::packet`]'s.
//! Tested against servers that lie, by `tests/daemon.rs`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::action::Moment;
use crate::clocks;
use crate::filter::Sample;
use crate::packet::{self, Exchange, LONGEST, Refusal, Span};
use crate::server::ServerId;

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// Whom it asks.
    pub id: ServerId,
    /// The socket to wait on.
    pub socket: UdpSocket,
    nonce: u64,
    sent: Moment,
    /// How far the clock was moved since, in nanoseconds.
    moved: i64,
}

/// What came in on a socket.
#[derive(Debug)]
pub enum Answer {
    /// Nothing that answers our request; wait on.
    Nothing,
    /// A sample.
    Sample(Sample),
    /// The server's own word, but not the time.
    Refused(Refusal),
    /// The network says that nobody is there.
    Unreachable,
}

impl Pending {
    /// Sends a request with `nonce` to `address`.
    ///
    /// # Errors
    /// The errno; `ENETUNREACH` without a route.
    pub fn send(id: ServerId, address: SocketAddr, nonce: u64) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        let request = packet::request(nonce);
        let sent = clocks::moment();
        socket.send(&request)?;
        Ok(Self {
            id,
            socket,
            nonce,
            sent,
            moved: 0,
        })
    }

    /// The clock was moved by `offset` nanoseconds while the request is under way.
    pub fn moved(&mut self, offset: i64) {
        self.moved = self.moved.saturating_add(offset);
    }

    /// Reads what has come by `woke`, until an answer to our request is found.
    pub fn receive(&self, woke: Moment, span: Span) -> Answer {
        let mut buffer = [0; LONGEST + 1];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Answer::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Answer::Unreachable,
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            match packet::read(bytes, self.nonce, span, &self.exchange(woke)) {
                Ok(sample) => return Answer::Sample(self.corrected(sample)),
                // Anyone can send these; only who saw the request knows its nonce.
                Err(
                    Refusal::Length(_) | Refusal::Version(_) | Refusal::Mode(_) | Refusal::Origin,
                ) => {}
                Err(refusal) => return Answer::Refused(refusal),
            }
        }
    }

    /// The time that passed is measured on the monotonic clock, so that a step meanwhile does no harm.
    fn exchange(&self, woke: Moment) -> Exchange {
        let passed = woke.now.saturating_sub(self.sent.now).as_nanos();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        Exchange {
            sent: self.sent.wall,
            received: self.sent.wall.shifted(passed),
            at: woke.now,
        }
    }

    fn corrected(&self, sample: Sample) -> Sample {
        Sample {
            offset: sample.offset.saturating_sub(self.moved),
            ..sample
        }
    }
}
