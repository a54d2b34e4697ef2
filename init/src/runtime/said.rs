//! Words of services taken in, if it was they who spoke; and their pipes handed to logd.

use std::io;
use std::os::fd::AsFd;

use gokrazy_sys::passing::{self, Sender};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpgid, getsid};

use super::event_loop::{Runtime, Slot};
use super::log_link::Origin;
use super::queue::Source;
use crate::service::{self, LogLimits};
use crate::supervise::Moment;
use crate::supervise::notify::Notice;
use crate::supervise::phase::Event;

/// Most datagrams of one service that are taken in a turn, so that a talkative one leaves room for the others.
const PER_TURN: usize = 16;

/// Most datagrams that are taken in at a service's end: more than the kernel queues (`net.unix.max_dgram_qlen`), for what
/// lives on of a service may go on talking.
const LAST_WORDS: usize = 1024;

/// What is kept of init's own lines and of the kernel's.
const OWN_LIMITS: LogLimits = LogLimits {
    volatile: 256 * 1024,
    persistent: 0,
};

impl Runtime {
    pub(super) fn on_notify(&mut self, index: usize) {
        for _ in 0..PER_TURN {
            let Some(notices) = self.next_said(index) else {
                return;
            };
            for notice in notices {
                self.feed(index, Event::Said(notice));
            }
        }
    }

    /// What a service said before its main process ended, at `now`.
    pub(super) fn hear_last_words(&mut self, index: usize, now: Moment) {
        for _ in 0..LAST_WORDS {
            let Some(notices) = self.next_said(index) else {
                return;
            };
            // There is nobody left to be treated as hung, and the process's number may be another's by now.
            let notices = notices
                .into_iter()
                .filter(|notice| *notice != Notice::WatchdogTrigger);
            for notice in notices {
                self.feed_at(index, Event::Said(notice), now);
            }
        }
    }

    /// The next datagram of a service; an empty list if it was not the service that spoke.
    fn next_said(&self, index: usize) -> Option<Vec<Notice>> {
        let slot = self.slots.get(index)?;
        let (sender, notices) = slot.notify.as_ref()?.next()?;
        let is_its = sender.is_some_and(|sender| slot.speaks_for(sender));
        Some(if is_its { notices } else { Vec::new() })
    }

    /// Logd takes more, or its end of the connection is closed.
    pub(super) fn on_log_link(&mut self) {
        let Some(socket) = self.log_link.socket() else {
            return;
        };
        let mut nothing = [0; 1];
        let gone = match passing::receive(socket, &mut nothing) {
            Ok(message) => message.length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if gone {
            self.close_log_link();
        }
        self.hand_over_logs();
    }

    pub(super) fn close_log_link(&mut self) {
        if let Some(socket) = self.log_link.socket() {
            self.queue.remove(socket);
        }
        self.log_link.close();
    }

    /// Hands logd the pipes that it has not got yet, as many as it takes now.
    pub(super) fn hand_over_logs(&mut self) {
        let mut full = false;
        while let Some(origin) = self.log_link.next() {
            match self.hand_over(origin) {
                Err(error) if is_full(&error) => {
                    full = true;
                    break;
                }
                // Gone: the next logd is handed everything.
                Err(error) if is_gone(&error) => self.close_log_link(),
                Ok(()) | Err(_) => self.log_link.done(),
            }
        }
        if let Some(socket) = self.log_link.socket() {
            let _ = self.queue.want_room(socket, Source::LogLink, full);
        }
    }

    fn hand_over(&self, origin: Origin) -> io::Result<()> {
        match origin {
            Origin::Init => match self.journal.reader() {
                Some(reader) => self.log_link.send(service::INIT_LOG, OWN_LIMITS, &[reader]),
                None => Ok(()),
            },
            Origin::Kernel => match &self.kernel_log {
                Some(file) => self
                    .log_link
                    .send(service::KERNEL_LOG, OWN_LIMITS, &[file.as_fd()]),
                None => Ok(()),
            },
            Origin::Service(index) => {
                let pipes = self.slots.get(index).and_then(|slot| slot.pipes.as_ref());
                let entry = self.registry.entries().get(index);
                let Some((pipes, entry)) = pipes.zip(entry) else {
                    return Ok(());
                };
                let ends = [pipes.out.reader(), pipes.err.reader()];
                self.log_link
                    .send(&entry.service.name, entry.service.log, &ends)
            }
            Origin::Run(index) => match self.registry.entries().get(index) {
                Some(entry) => self.log_link.send_end(&entry.service.name),
                None => Ok(()),
            },
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(nix::libc::ETOOMANYREFS)
}

fn is_gone(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
    ];
    kinds.contains(&error.kind())
}

impl Slot {
    /// Whether the sender is a process of this service.
    ///
    /// One that has ended already cannot be asked; then its user decides, which for a service with a user of its own
    /// is as good. (Whoever wants to be sure stays until it is heard, as `systemd-notify` does.)
    fn speaks_for(&self, sender: Sender) -> bool {
        if Some(sender.pid) == self.main {
            return true;
        }
        let Some(pid) = i32::try_from(sender.pid)
            .ok()
            .filter(|pid| *pid > 0)
            .map(Pid::from_raw)
        else {
            return false;
        };
        if kill(pid, None) == Err(Errno::ESRCH) {
            return Some(sender.uid) == self.facts.uid;
        }
        if let Some(group) = &self.group {
            return group.holds(sender.pid);
        }
        let main = self
            .main
            .and_then(|main| i32::try_from(main).ok())
            .map(Pid::from_raw);
        main.is_some() && (getpgid(Some(pid)).ok() == main || getsid(Some(pid)).ok() == main)
    }
}
