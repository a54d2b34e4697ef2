//! The loop: follows logd's segments and sends what comes, in its own time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gokrazy_core::log_record::{Record, Stream, Times, prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::message::Writer;
use super::target::Target;
use super::transport::Transport;
use crate::logd::reader::{Place, Reader, Wanted};
use crate::runtime::clock;
use crate::service;

/// Pause before the second try to reach a collector, doubled with each further one up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A way that has held for so long is told as lost when it is, and tried again soon.
const SETTLED: Duration = Duration::from_secs(60);

/// So soon is looked for a folder of logs that is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long what was printed last may take, once we are told to end.
const LAST: Duration = Duration::from_secs(2);

/// Our name as an application.
const NAME: &str = "syslog";

/// The way to the collector while it is open.
struct Way {
    transport: Transport,
    writer: Writer,
    /// On the boot clock.
    since: Duration,
}

struct Forwarder {
    log_dir: PathBuf,
    target: Target,
    signals: SignalFd,
    changes: Inotify,
    logs: BTreeMap<String, Reader>,
    way: Option<Way>,
    pause: Duration,
    /// Whether it has been told that the collector is away.
    is_told: bool,
}

/// Forwards what is below `log_dir` to `target` until SIGTERM or SIGINT.
///
/// # Errors
/// Signals or changes of files cannot be listened to.
pub fn run(log_dir: &Path, target: Target) -> io::Result<()> {
    let mut forwarder = Forwarder::new(log_dir, target)?;
    loop {
        let sent = forwarder.open().and_then(|()| forwarder.send_all(None));
        let limit = match sent {
            Ok(()) => forwarder.limit_at_rest(),
            Err(error) => Some(forwarder.give_up(&error)),
        };
        if forwarder.wait(limit)? {
            break;
        }
    }
    if forwarder.way.is_some() {
        let deadline = clock::boot().saturating_add(LAST);
        // Nobody is left to be told.
        let _ = forwarder.send_all(Some(deadline));
    }
    Ok(())
}

impl Forwarder {
    fn new(log_dir: &Path, target: Target) -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut forwarder = Self {
            log_dir: log_dir.to_owned(),
            target,
            signals,
            changes,
            logs: BTreeMap::new(),
            way: None,
            pause: FIRST_PAUSE,
            is_told: false,
        };
        forwarder.look();
        Ok(forwarder)
    }

    /// Finds new logs and watches them; each is sent from its oldest record on.
    fn look(&mut self) {
        let appear = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        // Without a watch we look again after a while.
        let _ = self.changes.add_watch(&self.log_dir, appear);
        let entries = std::fs::read_dir(&self.log_dir).into_iter().flatten();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if service::is_name(&name) && !self.logs.contains_key(&name) {
                let changes = appear | AddWatchFlags::IN_MODIFY;
                let _ = self.changes.add_watch(&entry.path(), changes);
                self.logs
                    .insert(name, Reader::from_oldest(entry.path(), Wanted::All));
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(way) = &self.way {
            return way.transport.check();
        }
        let transport = Transport::open(&self.target)?;
        let host = nix::sys::utsname::uname()?;
        let host = host.nodename().to_string_lossy().into_owned();
        if !self.is_told {
            eprintln!("{NAME}: forwarding to {}", self.target);
        }
        self.way = Some(Way {
            transport,
            writer: Writer::new(&host, Transport::longest(self.target.protocol)),
            since: clock::boot(),
        });
        Ok(())
    }

    /// Notes that the collector is away; returns the pause until the next try.
    fn give_up(&mut self, error: &io::Error) -> Duration {
        let now = clock::boot();
        let since = self.way.take().map(|way| way.since);
        if since.is_some_and(|since| now.saturating_sub(since) >= SETTLED) {
            self.is_told = false;
            self.pause = FIRST_PAUSE;
        }
        if !self.is_told {
            eprintln!("{NAME}: {} is away: {error}; trying again", self.target);
            self.is_told = true;
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        pause
    }

    /// Sends what there is, a piece of each log in turn, until there is no more, we are told to end, or `deadline`.
    fn send_all(&mut self, deadline: Option<Duration>) -> io::Result<()> {
        self.look();
        loop {
            let mut more = false;
            let names: Vec<String> = self.logs.keys().cloned().collect();
            for name in &names {
                more |= self.send_some(name)?;
            }
            let is_late = match deadline {
                Some(deadline) => clock::boot() >= deadline,
                None => self.is_told_to_end()?,
            };
            if !more || is_late {
                return Ok(());
            }
        }
    }

    /// Sends a piece of a log; says whether there may be more.
    fn send_some(&mut self, name: &str) -> io::Result<bool> {
        let (Some(reader), Some(way)) = (self.logs.get_mut(name), &mut self.way) else {
            return Ok(false);
        };
        // What is written to a stream that is closed already is lost.
        way.transport.check()?;
        let before = reader.place();
        let (mut sent, mut failed) = (before, None);
        let more = reader.read(|line, place| {
            let Some(record) = Record::parse(line).filter(|_| failed.is_none()) else {
                return;
            };
            match way.send(name, &record) {
                Ok(()) => sent = place,
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            reader.return_to(sent);
            return Err(error);
        }
        let after = reader.place();
        let told = way.confess(name, before, after);
        if told.is_err() {
            reader.return_to(before);
        }
        told.map(|()| more)
    }

    /// How long nothing needs to be looked at while all is sent.
    fn limit_at_rest(&self) -> Option<Duration> {
        (!self.log_dir.is_dir()).then_some(LOOK_AGAIN)
    }

    fn is_told_to_end(&self) -> io::Result<bool> {
        let mut ends = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut ends, PollTimeout::ZERO)? > 0)
    }

    /// Waits until there is something to do; says whether that is to end.
    ///
    /// While the collector is away, new records are no reason to wake.
    fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let listen = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![listen(self.signals.as_fd())];
        if let Some(way) = &self.way {
            let both: [BorrowedFd<'_>; 2] = [self.changes.as_fd(), way.transport.fd()];
            fds.extend(both.map(listen));
        }
        let limit = limit.and_then(|limit| PollTimeout::try_from(limit).ok());
        match poll(&mut fds, limit.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What changed is found out by looking.
        while self
            .changes
            .read_events()
            .is_ok_and(|events| !events.is_empty())
        {}
        self.is_told_to_end()
    }
}

impl Way {
    fn send(&mut self, name: &str, record: &Record<'_>) -> io::Result<()> {
        let transport = &mut self.transport;
        self.writer
            .write(name, record, |message| transport.send(message))
    }

    /// Tells the collector of segments that were gone before they could be read.
    fn confess(&mut self, name: &str, before: Place, after: Place) -> io::Result<()> {
        let lost = after.segments_since(before).saturating_sub(1);
        if lost == 0 {
            return Ok(());
        }
        let times = Times {
            boot_us: u64::try_from(clock::boot().as_micros()).unwrap_or(u64::MAX),
            wall_ms: clock::wall_ms(),
        };
        let text =
            format!("{name}: at least {lost} segments of its log were gone before they were sent");
        let line = prefix(times, Stream::Err, false, 4) + &text;
        match Record::parse(line.as_bytes()) {
            Some(record) => self.send(NAME, &record),
            None => Ok(()),
        }
    }
}
