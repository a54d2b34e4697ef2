//! Who manages an interface: one process, in each network namespace.
//!
//! The mark is a listening socket with an abstract name (`unix(7)`), which ends with its process however that ends,
//! belongs to the network namespace as interfaces do, and needs no folder.
//! Whoever connects learns who holds it, and is told nothing else.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::unistd::geteuid;

use crate::log::Log;
use crate::moment::Moment;
use crate::patience::Patience;

/// What can be managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The interface of this index.
    Interface(u32),
    /// Whatever is wired and nobody else's.
    AllWired,
}

/// The mark; dropped, it is free.
#[derive(Debug)]
pub struct Claim {
    listener: UnixListener,
}

/// Why there is no mark.
#[derive(Debug)]
pub enum Refusal {
    /// A process of ours, or root's, has it.
    Held(Holder),
    /// The kernel's errno.
    Failed(io::Error),
}

/// The process that holds a mark; unknown if too many ask it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(Option<i32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "another dhcp, process {id}"),
            None => write!(f, "another dhcp"),
        }
    }
}

impl Claim {
    /// Marks `scope` as managed by this process.
    ///
    /// # Errors
    /// It is another's, or cannot be made: no socket, or the name is taken by one that answers nobody (`ECONNREFUSED`)
    /// or has let too many wait (`EAGAIN`), which a mark of ours does not.
    /// A mark of a user that is neither ours nor root is no mark: anybody could keep us from the network by it.
    pub fn new(scope: Scope) -> Result<Option<Self>, Refusal> {
        let name = match scope {
            Scope::Interface(index) => format!("gokrazy-dhcp/interface/{index}"),
            Scope::AllWired => "gokrazy-dhcp/all-wired".to_owned(),
        };
        let failed = |errno: Errno| Refusal::Failed(errno.into());
        let address = UnixAddr::new_abstract(name.as_bytes()).map_err(failed)?;
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)
        };
        let mark = open()?;
        let mut tries = TRIES;
        loop {
            match bind(mark.as_raw_fd(), &address) {
                Ok(()) => {
                    listen(&mark, Backlog::MAXCONN).map_err(failed)?;
                    return Ok(Some(Self {
                        listener: mark.into(),
                    }));
                }
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let asking = open()?;
            match connect(asking.as_raw_fd(), &address) {
                Ok(()) => return judge(&asking),
                // It went away meanwhile, or is just coming. A name that stays mute is no mark: anybody can take one.
                Err(Errno::ECONNREFUSED) if tries > 0 => {
                    tries = tries.saturating_sub(1);
                    std::thread::sleep(PAUSE);
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Lets those go who have asked, so that there is room for the next; says how many there were.
    fn answer(&self) -> u64 {
        let mut count = 0_u64;
        // Without end only if they come faster than they are let go, which one processor each does not do.
        while count < BATCH && self.listener.accept().is_ok() {
            count = count.saturating_add(1);
        }
        count
    }
}

/// How many are let go at once.
const BATCH: u64 = 4096;

/// How often a holder is asked anew that does not listen yet, and the wait before each: it listens at once.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

fn judge(asking: &OwnedFd) -> Result<Option<Claim>, Refusal> {
    let holder = getsockopt(&asking.as_fd(), sockopt::PeerCredentials)
        .map_err(|errno| Refusal::Failed(errno.into()))?;
    if holder.uid() == 0 || holder.uid() == geteuid().as_raw() {
        return Err(Refusal::Held(Holder(Some(holder.pid()))));
    }
    Ok(None)
}

/// Whether no other process manages the interface of this index; our own mark counts as another's.
pub fn is_free(index: u32) -> bool {
    !matches!(Claim::new(Scope::Interface(index)), Err(Refusal::Held(_)))
}

/// The marks of this process, and those that it looks for in vain.
#[derive(Debug, Default)]
pub struct Claims {
    held: HashMap<u32, Option<Claim>>,
    refused: HashSet<u32>,
    all_wired: Option<Claim>,
    /// With those who ask: anybody on the machine can, without end.
    patience: Patience,
}

impl Claims {
    /// Marks whatever is wired as managed by this process.
    ///
    /// # Errors
    /// Who manages it already.
    pub fn take_all_wired(&mut self, log: Log) -> Result<(), Holder> {
        self.all_wired = unless_held(Claim::new(Scope::AllWired), "dhcp", log)?;
        Ok(())
    }

    /// Marks an interface, and says whether it may be managed.
    pub fn take(&mut self, index: u32, name: &str, log: Log) -> bool {
        match unless_held(Claim::new(Scope::Interface(index)), name, log) {
            Ok(claim) => {
                self.held.insert(index, claim);
                self.refused.remove(&index);
                true
            }
            Err(holder) => {
                if self.refused.insert(index) {
                    log.event(name, format!("managed by {holder}; left alone"));
                }
                false
            }
        }
    }

    /// The interface is no longer ours to manage.
    pub fn release(&mut self, index: u32) {
        self.held.remove(&index);
        self.refused.remove(&index);
    }

    fn marks(&self) -> impl Iterator<Item = &Claim> {
        self.held.values().chain([&self.all_wired]).flatten()
    }

    /// The descriptors to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let is_patient = self.patience.pause().is_none();
        let marks = self.marks().filter(move |_| is_patient);
        marks.map(|mark| mark.listener.as_fd())
    }

    /// When [`Claims::answer`] is due even if nobody asks.
    pub fn deadline(&self) -> Option<Moment> {
        self.patience.pause()
    }

    /// Lets those go who have asked who holds a mark.
    pub fn answer(&mut self, now: Moment) {
        if !self.patience.is_exhausted(now) {
            let asked = self.marks().map(Claim::answer).sum();
            self.patience.try_with(asked, now);
        }
    }

    /// Whether others manage interfaces that we want.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}

/// A mark that cannot be made keeps nobody from the network.
fn unless_held(
    result: Result<Option<Claim>, Refusal>,
    who: &str,
    log: Log,
) -> Result<Option<Claim>, Holder> {
    match result {
        Ok(claim) => Ok(claim),
        Err(Refusal::Held(holder)) => Err(holder),
        Err(Refusal::Failed(error)) => {
            log.event(who, format!("mark as managed: {error}; going on without"));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_held_once_and_free_again_at_its_end() {
        // No interface has such an index.
        let scope = Scope::Interface(u32::MAX);
        let first = Claim::new(scope).unwrap();
        assert!(first.is_some());
        let own = i32::try_from(std::process::id()).unwrap();
        match Claim::new(scope) {
            Err(Refusal::Held(holder)) => assert_eq!(holder, Holder(Some(own))),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(Claim::new(scope).unwrap().is_some());
    }

    #[test]
    fn a_mark_is_held_however_often_it_is_asked_for() {
        let (index, log) = (
            u32::MAX - 2,
            Log {
                verbosity: crate::log::Verbosity::Events,
            },
        );
        let mut claims = Claims::default();
        assert!(claims.take(index, "none", log));
        // More than any kernel lets wait; a moment passes with each.
        for round in 0..5000 {
            assert!(matches!(
                Claim::new(Scope::Interface(index)),
                Err(Refusal::Held(_))
            ));
            claims.answer(Moment::from_millis(40 * round));
        }
    }

    #[track_caller]
    fn fails(scope: Scope, wanted: Errno) {
        match Claim::new(scope) {
            Err(Refusal::Failed(error)) => {
                assert_eq!(error.raw_os_error(), Some(wanted as i32));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_that_nobody_answers_for_keeps_nobody_away() {
        let index = u32::MAX - 1;
        let name = format!("gokrazy-dhcp/interface/{index}");
        let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
        };
        let mute = open();
        bind(mute.as_raw_fd(), &address).unwrap();
        fails(Scope::Interface(index), Errno::ECONNREFUSED);
        listen(&mute, Backlog::new(1).unwrap()).unwrap();
        let waiting: Vec<OwnedFd> = (0..4).map(|_| open()).collect();
        let ask = |fd: &OwnedFd| connect(fd.as_raw_fd(), &address);
        assert!(
            waiting
                .iter()
                .map(ask)
                .any(|asked| asked == Err(Errno::EAGAIN))
        );
        fails(Scope::Interface(index), Errno::EAGAIN);
    }
}
