//! What the daemon waits for beside its servers: a route that comes, a lease that changes, a signal.
//!
//! Routes are told by rtnetlink(7), lease files by inotify(7); where a sandbox bans either, the timers do without.
//! Tested with routes and leases that come and go, by `tests/network.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

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
