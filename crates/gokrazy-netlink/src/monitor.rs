//! The socket that tells of changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt,
};

use crate::codec::messages;
use crate::event::Event;
use crate::handle::receive;

/// Room for one datagram of events.
const BUFFER: usize = 16 * 1024;

/// Whether to hear of IPv6 beside links, IPv4 addresses and IPv4 routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// Links, IPv4 addresses, IPv4 routes.
    Ipv4,
    /// These, and IPv6 addresses, routes, interface flags and router options.
    Both,
}

impl Groups {
    /// The group mask of `rtnetlink(7)`, for the groups that it can express.
    fn mask(self) -> u32 {
        let four = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV4_ROUTE;
        // RTNLGRP_ND_USEROPT is group 20: bit 19.
        let six = libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV6_ROUTE
            | libc::RTMGRP_IPV6_IFINFO
            | (1 << 19);
        let mask = match self {
            Self::Ipv4 => four,
            Self::Both => four | six,
        };
        mask.cast_unsigned()
    }
}

/// A socket for events.
#[derive(Debug)]
pub struct Monitor {
    socket: OwnedFd,
}

impl Monitor {
    /// Opens the socket; what happens from now on is heard.
    ///
    /// # Errors
    /// The errno of making or binding it.
    pub fn open(groups: Groups) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        // Best effort: a larger queue only makes overflow, which we recover from, rarer.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &(256 * 1024));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.mask()))?;
        Ok(Self { socket })
    }

    /// All events that have arrived.
    ///
    /// # Errors
    /// The kernel's errno, other than for an overflow, which is [`Event::Lost`].
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut buffer = vec![0; BUFFER];
        let mut events = Vec::new();
        loop {
            match receive(&self.socket, &mut buffer) {
                Ok(len) => {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    events.extend(messages(datagram).filter_map(|message| Event::decode(&message)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    events.push(Event::Lost);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
