//! Pipes of the services, handed to logd; init keeps both ends, so nothing is lost while logd starts anew.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gokrazy_core::keyvalue::Document;
use gokrazy_core::paths;
use gokrazy_sys::passing;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{pipe2, write};

use crate::service::LogLimits;
use crate::supervise::Moment;

/// Both ends of the pipes of one service.
#[derive(Debug)]
pub struct Pipes {
    /// Standard output.
    pub out: Pipe,
    /// Standard error.
    pub err: Pipe,
}

/// Both ends of a pipe: one descriptor that is open for reading and writing, where there is such a thing.
///
/// Every child has to close what it has from us, and what a thousand services need twice is a good part of all their
/// work.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
}

/// Where a service writes.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// A descriptor as it is.
    Plain(BorrowedFd<'a>),
    /// One that reads too: the service opens it once more, for writing alone, also since whether reading waits is the
    /// log keeper's to say.
    Both(BorrowedFd<'a>),
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let both = File::options()
            .read(true)
            .write(true)
            // Neither we nor the log keeper wait for it; the service opens its own.
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(Path::new(paths::PROC_SELF_FD).join(reader.as_raw_fd().to_string()));
        Ok(match both {
            Ok(both) => Self {
                reader: both.into(),
                writer: None,
            },
            Err(_) => Self {
                reader,
                writer: Some(writer),
            },
        })
    }

    /// Where logd reads.
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Where the service writes.
    pub fn output(&self) -> Output<'_> {
        match &self.writer {
            Some(writer) => Output::Plain(writer.as_fd()),
            None => Output::Both(self.reader.as_fd()),
        }
    }
}

impl Pipe {
    /// Writes behind all that was written; says whether there was room, and we could write without waiting.
    fn mark(&self, line: &str) -> bool {
        // No longer than `PIPE_BUF`, so that it is written whole or not at all.
        self.writer.is_none() && write(&self.reader, line.as_bytes()).is_ok()
    }
}

impl Pipes {
    /// Marks that a run is over, so that a last line without an end stays apart from the next run's first; says whether
    /// both pipes took the mark.
    pub fn end_run(&self, mark: &str) -> bool {
        let line = format!("{mark}\n");
        let marked = [&self.out, &self.err].map(|pipe| pipe.mark(&line));
        !marked.contains(&false)
    }

    /// New pipes.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` where no more descriptors are to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            out: Pipe::new()?,
            err: Pipe::new()?,
        })
    }
}

/// Whose output a message to logd is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Init itself.
    Init,
    /// The kernel.
    Kernel,
    /// The service at that position.
    Service(usize),
    /// A run of the service at that position, which is over: what it left without a line break is a line.
    Run(usize),
}

/// The connection to logd, and what it has not been handed yet.
#[derive(Debug)]
pub struct LogLink {
    /// What stands in a pipe where a run is over.
    mark: String,
    socket: Option<OwnedFd>,
    pending: VecDeque<Origin>,
}

impl LogLink {
    /// No connection yet; `now` makes the mark between runs one that no service prints.
    pub fn new(now: Moment) -> Self {
        Self {
            mark: format!("[gokrazy: end of run {:016x}]", now.as_nanos()),
            socket: None,
            pending: VecDeque::new(),
        }
    }

    /// What stands in a pipe where a run is over.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Makes the connection anew for a logd that is about to start, which has to be handed everything; returns its end.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE`.
    pub fn renew(&mut self, everything: impl Iterator<Item = Origin>) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        self.socket = Some(ours);
        self.pending = everything.collect();
        Ok(theirs)
    }

    /// Notes that logd has to be handed one more.
    pub fn add(&mut self, origin: Origin) {
        // A logd that stands still is not told more often than once of a service that ends again and again.
        let is_news = !self.pending.contains(&origin);
        if self.socket.is_some() && is_news {
            self.pending.push_back(origin);
        }
    }

    /// The next that has to be handed over.
    pub fn next(&self) -> Option<Origin> {
        self.pending.front().copied()
    }

    /// Notes that the next has been handed over, or cannot be.
    pub fn done(&mut self) {
        self.pending.pop_front();
    }

    /// Our end of the connection.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Closes the connection, so that logd ends when it has read what there is.
    pub fn close(&mut self) {
        self.socket = None;
        self.pending.clear();
    }

    /// Tells logd that nothing more comes of a service's run.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_end(&self, name: &str) -> io::Result<()> {
        let socket = self.socket().ok_or(io::ErrorKind::NotConnected)?;
        let message = Document::new().set("name", name).set("ended", 1).render();
        passing::send(socket, message.as_bytes(), &[])
    }

    /// Hands logd the reading ends of one origin.
    ///
    /// # Errors
    /// `EAGAIN` when logd has not taken the earlier ones yet, `EPIPE` when it is gone.
    pub fn send(&self, name: &str, limits: LogLimits, ends: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = self.socket().ok_or(io::ErrorKind::NotConnected)?;
        let message = Document::new()
            .set("name", name)
            .set("volatile", limits.volatile)
            .set("persistent", limits.persistent)
            .set("mark", &self.mark)
            .render();
        passing::send(socket, message.as_bytes(), ends)
    }
}
