//! The kernel's announcements of devices (`NETLINK_KOBJECT_UEVENT`), without a daemon between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt,
    socket, sockopt,
};

/// The multicast group on which the kernel itself speaks (udev relays on another).
const KERNEL_GROUP: u32 = 1;

/// The sender's address of what the kernel says (netlink(7)).
const KERNEL: u32 = 0;

/// A cold boot announces hundreds of devices at once; the kernel drops what does not fit.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// One device that came, as far as we care.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind` …
    pub action: String,
    /// What the device belongs to: `block`, `input`, `net` …
    pub subsystem: String,
    /// Its node below `/dev`, if it has one.
    pub node: Option<String>,
    /// What the device is, for [`crate::modules::Aliases`]; absent for many.
    pub modalias: Option<String>,
}

impl Uevent {
    /// Whether it stands for announcements that were lost: any device may have come or gone.
    pub fn is_loss(&self) -> bool {
        self.action.is_empty()
    }
}

/// What the socket brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The kernel's word on a device.
    Device(Uevent),
    /// Somebody else's word, which counts for nothing.
    Foreign,
    /// Some were lost, for they came faster than they were read.
    Lost,
}

/// A socket that hears the kernel's announcements.
#[derive(Debug)]
pub struct UeventSocket {
    socket: OwnedFd,
}

impl UeventSocket {
    /// `socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)`, non-blocking, bound to the kernel's group.
    ///
    /// # Errors
    /// The errno of making or binding the socket.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        // A smaller buffer only means that more is lost when many devices come at once.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Waits until something is to be read, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // Interrupted or not, the caller looks again.
        let _ = poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        );
    }

    /// The next announcement, or `None` if there is none at the moment.
    pub fn next(&self) -> Option<Announcement> {
        let mut buffer = [0; 8192];
        loop {
            return match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(from))) if from.pid() == KERNEL => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    Some(Announcement::Device(Uevent::parse(datagram)))
                }
                // A process with CAP_NET_ADMIN can speak in this group too, and shall not have modules loaded; it is
                // handed on all the same, so that who reads so many a turn keeps to that.
                Ok(_) => Some(Announcement::Foreign),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => Some(Announcement::Lost),
                Err(_) => None,
            };
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Uevent {
    /// The modalias of a device that came.
    pub fn came(&self) -> Option<&str> {
        self.modalias.as_deref().filter(|_| self.action == "add")
    }

    /// Reads a datagram: a heading, then `KEY=value` texts, each ended by NUL.
    pub fn parse(datagram: &[u8]) -> Self {
        let mut event = Self::default();
        for field in datagram.split(|byte| *byte == 0) {
            let Ok(text) = std::str::from_utf8(field) else {
                continue;
            };
            match text.split_once('=') {
                Some(("ACTION", action)) => event.action = action.to_owned(),
                Some(("SUBSYSTEM", subsystem)) => event.subsystem = subsystem.to_owned(),
                Some(("DEVNAME", node)) => event.node = Some(node.to_owned()),
                Some(("MODALIAS", modalias)) => event.modalias = Some(modalias.to_owned()),
                Some(_) | None => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_garbage_is_none() {
        let datagram =
            b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=usb\0DEVNAME=bus/usb/001/002\0MODALIAS=usb:v0525\0SEQNUM=7\0";
        let want = Uevent {
            action: "add".to_owned(),
            subsystem: "usb".to_owned(),
            node: Some("bus/usb/001/002".to_owned()),
            modalias: Some("usb:v0525".to_owned()),
        };
        assert_eq!(Uevent::parse(datagram), want);
        assert_eq!(want.came(), Some("usb:v0525"));
        assert_eq!(
            Uevent::parse(b"ACTION=remove\0MODALIAS=usb:v0525\0").came(),
            None
        );
        assert_eq!(Uevent::parse(b"\xff\xfe=\0\0=x"), Uevent::default());
    }
}
