//! The sockets: one per request, on a port of its own (RFC 9109), connected so that the kernel drops what comes from
//! elsewhere.
//!
//! The kernel notes when an answer comes in (`SO_TIMESTAMPNS`, socket(7)), so that a busy machine that wakes us late
//! does not make the way back look long; a request is stamped right before it leaves, since its own stamp would cost a
//! wake-up to fetch.
//! What an answer means is [`crate::packet`]'s.
//! Tested against servers that lie, by `tests/daemon.rs`.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::action::Moment;
use crate::clocks;
use crate::filter::Sample;
use crate::packet::{self, Exchange, LONGEST, Refusal, Span};
use crate::server::ServerId;
use crate::wall::{Mono, Wall};

/// How far the two clocks may part between a request and its answer, by slewing and rounding; more is a step, and the
/// kernel's stamp one on another clock. In nanoseconds.
const PARTED: u64 = 1_000_000;

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
        // Where it is refused, as in some sandboxes, the moment of waking has to do.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
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
            let (length, stamp) = match self.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Answer::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Answer::Unreachable,
            };
            let came = stamp
                .and_then(|stamp| came(self.sent, clocks::moment(), stamp))
                .unwrap_or(woke.now);
            let bytes = buffer.get(..length).unwrap_or_default();
            match packet::read(bytes, self.nonce, span, &self.exchange(came)) {
                Ok(sample) => return Answer::Sample(self.corrected(sample)),
                // Anyone can send these; only who saw the request knows its nonce.
                Err(
                    Refusal::Length(_) | Refusal::Version(_) | Refusal::Mode(_) | Refusal::Origin,
                ) => {}
                Err(refusal) => return Answer::Refused(refusal),
            }
        }
    }

    /// The next packet's length, and the kernel's stamp if there is one.
    fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<Wall>)> {
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        )?;
        let stamp = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::ScmTimestampns(time) => {
                    Some(Wall::new(time.tv_sec(), time.tv_nsec()))
                }
                _ => None,
            })
        });
        Ok((message.bytes, stamp))
    }

    /// The time that passed is measured on the monotonic clock, so that a step meanwhile does no harm.
    fn exchange(&self, came: Mono) -> Exchange {
        let passed = came.saturating_sub(self.sent.now).as_nanos();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        Exchange {
            sent: self.sent.wall,
            received: self.sent.wall.shifted(passed),
            at: came,
        }
    }

    fn corrected(&self, sample: Sample) -> Sample {
        Sample {
            offset: sample.offset.saturating_sub(self.moved),
            ..sample
        }
    }
}

/// The moment of the kernel's `stamp` on the monotonic clock, for an answer to a request of `sent` that is read `now`.
///
/// Nothing if the stamp is none of our clock: this was set meanwhile, or something stands between it and the kernel's.
fn came(sent: Moment, now: Moment, stamp: Wall) -> Option<Mono> {
    let passed = now.now.saturating_sub(sent.now);
    let shown = now.wall.since(sent.wall);
    let parted = shown.abs_diff(i64::try_from(passed.as_nanos()).ok()?);
    let way = u64::try_from(stamp.since(sent.wall)).ok()?;
    let ours = stamp <= now.wall && parted <= PARTED.saturating_add(shown.unsigned_abs() / 1_000);
    ours.then(|| sent.now + Mono::from_nanos(way))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both clocks so many milliseconds after the request.
    fn at(now: u64, wall: i64) -> Moment {
        Moment {
            now: Mono::from_millis(5_000 + now),
            wall: Wall::new(1_800_000_000, wall * 1_000_000),
        }
    }

    #[track_caller]
    fn check(now: (u64, i64), stamp: i64, want: Option<u64>) {
        let came = came(at(0, 0), at(now.0, now.1), at(0, stamp).wall);
        assert_eq!(came, want.map(|after| at(after, 0).now));
    }

    #[test]
    fn a_late_wake_up_does_not_make_the_way_longer() {
        check((10, 10), 10, Some(10));
        check((80, 80), 10, Some(10));
        check((9_000, 9_004), 10, Some(10));
    }

    #[test]
    fn a_stamp_of_another_clock_says_nothing() {
        check((80, 80), 81, None);
        check((80, 80), -1, None);
        check((80, 580), 510, None);
        check((80, -420), -430, None);
    }
}
