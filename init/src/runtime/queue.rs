//! The one queue that init waits on (`epoll(7)`), and what its events are about.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

/// What woke init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A signal came, a child's end among them.
    Signals,
    /// A client wants to connect.
    Control,
    /// A client sent something.
    Client(u32),
    /// The child of the service at that position reports.
    Report(u32),
    /// The service at that position said something of itself.
    Notify(u32),
    /// Logd takes more, or is gone.
    LogLink,
    /// An address of the machine changed.
    Addresses,
    /// A device came or went.
    Devices,
    /// Somebody typed on the console.
    Console,
    /// An input device with a power key says something; all are looked at.
    Buttons,
}

impl Source {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Control => (1, 0),
            Self::Client(id) => (2, id),
            Self::Report(index) => (3, index),
            Self::Notify(index) => (4, index),
            Self::LogLink => (5, 0),
            Self::Addresses => (6, 0),
            Self::Devices => (7, 0),
            Self::Console => (8, 0),
            Self::Buttons => (9, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn decode(data: u64) -> Option<Self> {
        let number = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        match data >> 32 {
            0 => Some(Self::Signals),
            1 => Some(Self::Control),
            2 => Some(Self::Client(number)),
            3 => Some(Self::Report(number)),
            4 => Some(Self::Notify(number)),
            5 => Some(Self::LogLink),
            6 => Some(Self::Addresses),
            7 => Some(Self::Devices),
            8 => Some(Self::Console),
            9 => Some(Self::Buttons),
            _ => None,
        }
    }
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    epoll: Epoll,
}

/// Most events taken at once.
const BATCH: usize = 64;

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        })
    }

    /// Listens to a descriptor until [`Self::remove`].
    ///
    /// # Errors
    /// `ENOMEM` or `ENOSPC`.
    pub fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, source.encode()))?)
    }

    /// Listens to a descriptor no longer; to be called before it is closed.
    ///
    /// Closing alone does not end it: a child that has not come to its program yet holds a copy, and until then each
    /// wait would end at once with what nobody can take.
    pub fn remove(&self, fd: impl AsFd) {
        // It fails only for one that was not added.
        let _ = self.epoll.delete(fd);
    }

    /// Listens for room in a descriptor, or no longer.
    ///
    /// # Errors
    /// `ENOENT` for one that was not added.
    pub fn want_room(&self, fd: impl AsFd, source: Source, wanted: bool) -> io::Result<()> {
        let flags = if wanted {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        Ok(self
            .epoll
            .modify(fd, &mut EpollEvent::new(flags, source.encode()))?)
    }

    /// Waits at most `limit` (`None`: for ever) and returns what happened.
    pub fn wait(&self, limit: Option<Duration>) -> Vec<Source> {
        let mut events = [EpollEvent::empty(); BATCH];
        let timeout = match limit {
            None => EpollTimeout::NONE,
            Some(limit) => {
                self.rest(limit);
                EpollTimeout::ZERO
            }
        };
        // A signal that nobody blocks, or a fault that the next turn meets again: either is no event.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or_default();
        let happened = events.iter().take(count);
        happened
            .filter_map(|event| Source::decode(event.data()))
            .collect()
    }

    /// Until something happens, or for that long: epoll itself counts in whole milliseconds, of which a restart's delay
    /// has few to spare.
    fn rest(&self, limit: Duration) {
        if limit.is_zero() {
            return;
        }
        let mut queue = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        // Whatever ends it, the caller looks what there is.
        let _ = ppoll(&mut queue, Some(TimeSpec::from(limit.min(LONGEST))), None);
    }
}

/// Longest wait at a time, well within what the kernel counts.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_wakes_nobody_though_a_child_holds_a_copy_of_it() {
        let queue = Queue::new().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let of_a_child = reader.try_clone().unwrap();
        queue.add(&reader, Source::Report(0)).unwrap();
        drop(writer);
        let now = Some(Duration::ZERO);
        assert_eq!(queue.wait(now), [Source::Report(0)]);
        queue.remove(&reader);
        drop(reader);
        assert_eq!(queue.wait(now), []);
        drop(of_a_child);
    }

    #[test]
    fn a_source_survives_its_number() {
        for source in [
            Source::Signals,
            Source::Control,
            Source::Client(7),
            Source::Report(u32::MAX),
            Source::Notify(0),
            Source::LogLink,
            Source::Addresses,
            Source::Devices,
            Source::Console,
            Source::Buttons,
        ] {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(99 << 32), None);
    }
}
