//! Whether an init is there, for whoever goes on for as long as it is.
//!
//! Its process is watched, not a connection to it: those are few, and a program that replaces itself after a panic
//! closes them all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gokrazy_sys::process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use super::{CtlError, client};
use crate::runtime::clock;
use crate::supervise::Moment;

/// How long an init that ended without order may be away: whoever started it may start another.
const AWAY: Duration = Duration::from_secs(10);

/// How long there may be no socket: one that ends in order removes it, one that starts makes it anew.
const ABSENT: Duration = Duration::from_millis(300);

/// The init of a run folder, and what ends with it.
#[derive(Debug)]
pub struct Presence {
    run_dir: PathBuf,
    life: Option<OwnedFd>,
    away_since: Option<Moment>,
    /// Since when there has been no socket.
    absent_since: Option<Moment>,
}

/// What became of an init.
#[derive(Debug)]
pub enum Seen {
    /// It is there, or may come back.
    Here,
    /// It has ended in order.
    Ended,
    /// It has ended and does not come back.
    Lost(CtlError),
}

impl Presence {
    /// The init of that run folder, which nobody has looked for yet.
    pub fn of(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            life: None,
            away_since: None,
            absent_since: None,
        }
    }

    /// Looks for so long whether it ends.
    pub fn look(&mut self, period: Duration) -> Seen {
        match &self.life {
            Some(life) if !has_ended(life, period) => return Seen::Here,
            Some(_) => {
                self.life = None;
                // A connection may have been taken from us for another's, who must not lose it to us at once.
                thread::sleep(period);
            }
            None if self.away_since.is_some() => thread::sleep(period),
            None => {}
        }
        let now = clock::boot();
        match client::connect(&self.run_dir).map(life_of) {
            Ok(life) => {
                self.life = Some(life);
                (self.away_since, self.absent_since) = (None, None);
                Seen::Here
            }
            Err(error) => {
                let away = *self.away_since.get_or_insert(now);
                let absent = self.absent_since.unwrap_or(now);
                self.absent_since = is_absent(&error).then_some(absent);
                let since = self.absent_since.unwrap_or(away);
                judge(error, now.saturating_sub(since))
            }
        }
    }
}

fn is_absent(error: &CtlError) -> bool {
    match error {
        CtlError::NoInit(_, error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What follows when init could not be reached in that way for so long.
fn judge(error: CtlError, away: Duration) -> Seen {
    match is_absent(&error) {
        true if away >= ABSENT => Seen::Ended,
        false if away >= AWAY => Seen::Lost(error),
        true | false => Seen::Here,
    }
}

/// What becomes readable when the process at the other end is gone; where it has no number here, as in a PID namespace
/// beside ours, the connection itself.
fn life_of(connection: OwnedFd) -> OwnedFd {
    let peer = getsockopt(&connection, sockopt::PeerCredentials).ok();
    let pid = peer.and_then(|peer| u32::try_from(peer.pid()).ok());
    let process = pid.and_then(|pid| process::watch(pid).ok());
    // While the connection stands, the number is nobody else's.
    process
        .filter(|_| !has_ended(&connection, Duration::ZERO))
        .unwrap_or(connection)
}

fn has_ended(life: &OwnedFd, period: Duration) -> bool {
    let mut end = [PollFd::new(life.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(period).unwrap_or(PollTimeout::ZERO);
    poll(&mut end, limit).is_ok_and(|ended| ended > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_made_anew_after_a_kill_is_not_an_end_in_order() {
        let folder = std::env::temp_dir().join(format!("gokrazy-ctl-seen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join(gokrazy_core::paths::CONTROL_SOCKET);
        // What a killed one leaves: a file at which nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let mut presence = Presence::of(&folder);
        let mut look = || presence.look(Duration::from_millis(200));
        for _ in 0..4 {
            assert!(matches!(look(), Seen::Here));
        }
        std::fs::remove_file(&socket).unwrap();
        assert!(matches!(look(), Seen::Here));
        let ended = (0..10).any(|_| matches!(look(), Seen::Ended));
        let _ = std::fs::remove_dir_all(&folder);
        assert!(ended);
    }

    #[test]
    fn an_init_that_went_without_order_is_waited_for() {
        let seen = |kind: io::ErrorKind, away: u64| {
            let error = CtlError::NoInit(PathBuf::new(), kind.into());
            match judge(error, Duration::from_millis(away)) {
                Seen::Here => "here",
                Seen::Ended => "ended",
                Seen::Lost(_) => "lost",
            }
        };
        for (kind, away, want) in [
            (io::ErrorKind::ConnectionRefused, 0, "here"),
            (io::ErrorKind::ConnectionRefused, 9999, "here"),
            (io::ErrorKind::ConnectionRefused, 10_000, "lost"),
            (io::ErrorKind::NotFound, 299, "here"),
            (io::ErrorKind::NotFound, 300, "ended"),
        ] {
            assert_eq!(seen(kind, away), want, "{kind} for {away} ms");
        }
    }
}
