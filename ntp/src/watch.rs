//! What the daemon waits for beside its servers: a route that comes, a lease that changes, a clock that is set, a signal.
//!
//! Routes are told by rtnetlink(7), lease files by inotify(7), clocks by timerfd_create(2); where a sandbox bans any, the
//! timers do without.
//! Tested with routes and leases that come and go, by `tests/network.rs`, and in a machine whose clock is set, by
//! `examples/hardware_clock.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// `RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE` of `<linux/rtnetlink.h>`.
const ROUTE_GROUPS: u32 = 0x40 | 0x400;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT.
    End,
    /// SIGHUP: read the leases and ask everyone anew.
    Renew,
}

/// The signals that the daemon heeds.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes them from their default, which is to end the process without a word.
    ///
    /// # Errors
    /// The errno of blocking them or of making the descriptor.
    pub fn new() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGHUP);
        // Threads inherit the mask, so it must stand before the first of them.
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&set, flags).map(Self)
    }

    /// Readable once a signal came.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next signal's wish, if one came.
    pub fn wish(&self) -> Option<Wish> {
        let signal = self.0.read_signal().ok()??;
        let renews = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
        Some(if renews { Wish::Renew } else { Wish::End })
    }
}

/// Wakes when someone sets the clock, or the machine resumes: a timer that never expires, and that the kernel cancels
/// then. By how much is told by the clocks themselves.
#[derive(Debug)]
pub struct ClockSet(Option<TimerFd>);

impl ClockSet {
    /// Watches from now on.
    pub fn new() -> Self {
        Self(never().ok())
    }

    /// Readable once the clock was set, by us too.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// Takes note of it.
    pub fn drain(&self) {
        let _ = self.0.as_ref().map(TimerFd::wait);
    }
}

impl Default for ClockSet {
    fn default() -> Self {
        Self::new()
    }
}

/// In the year 2242, beyond every build's ceiling and within what the kernel takes.
fn never() -> nix::Result<TimerFd> {
    let timer = TimerFd::new(
        ClockId::CLOCK_REALTIME,
        TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
    )?;
    timer.set(
        Expiration::OneShot(TimeSpec::new(1 << 33, 0)),
        TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET,
    )?;
    Ok(timer)
}

/// Changes of the network and of the leases.
#[derive(Debug)]
pub struct Watch {
    routes: Option<OwnedFd>,
    leases: Option<Inotify>,
    folder: PathBuf,
    /// Whether the folder is there and watched.
    armed: bool,
}

impl Watch {
    /// Watches routes, and `folder` for lease files.
    pub fn new(folder: &Path) -> Self {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let mut watch = Self {
            routes: routes().ok(),
            leases: Inotify::init(flags).ok(),
            folder: folder.to_owned(),
            armed: false,
        };
        watch.arm();
        watch
    }

    /// Descriptors that become readable when something changed.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let routes = self.routes.iter().map(AsFd::as_fd);
        routes.chain(self.leases.iter().map(AsFd::as_fd))
    }

    /// Watches the folder, if it is not watched yet; true if it has come to be.
    pub fn arm(&mut self) -> bool {
        let before = self.armed;
        if let Some(leases) = self.leases.as_ref().filter(|_| !before) {
            let flags = AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_DELETE_SELF;
            // Fails while the folder is missing; the next poll is the next try.
            self.armed = leases.add_watch(&self.folder, flags).is_ok();
        }
        self.armed && !before
    }

    /// Takes in all that was told; what it was does not matter, all is read anew.
    pub fn drain(&mut self) {
        if let Some(routes) = &self.routes {
            let mut buffer = [0; 4_096];
            // `ENOBUFS` tells of lost messages, which is as good as a message.
            while matches!(
                recv(routes.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT),
                Ok(1..) | Err(Errno::ENOBUFS)
            ) {}
        }
        if let Some(leases) = &self.leases {
            while let Ok(events) = leases.read_events() {
                let gone = |event: &InotifyEvent| event.mask.contains(AddWatchFlags::IN_IGNORED);
                self.armed &= !events.iter().any(gone);
            }
        }
        self.arm();
    }
}

fn routes() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let routes = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    bind(routes.as_raw_fd(), &NetlinkAddr::new(0, ROUTE_GROUPS))?;
    Ok(routes)
}
