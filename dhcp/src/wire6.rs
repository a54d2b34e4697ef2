//! The socket of DHCPv6 on one interface: from port 546 to all servers on the link.
//!
//! It is open while a reply is awaited, and its filter lets through nothing else.
//! Questions to routers leave from here too; their answers are the kernel's to read.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use gokrazy_sys::packet;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, recv, sendto,
    setsockopt, socket, sockopt,
};

use crate::filter;
use crate::wire::BACKLOG;

/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// All routers on the link (RFC 4291 §2.7.1).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// Room for a message of the usual size.
const MESSAGE: usize = 1500;

/// The socket.
#[derive(Debug, Default)]
pub struct Wire6 {
    awaited: Option<([u8; 3], OwnedFd)>,
}

impl Wire6 {
    /// Listens to replies of transaction `xid`, or to none.
    ///
    /// # Errors
    /// The errno of opening or filtering the socket; `EADDRINUSE` if another client runs.
    pub fn await_replies(&mut self, name: &str, xid: Option<[u8; 3]>) -> io::Result<()> {
        if self.awaited.as_ref().map(|(held, _)| *held) == xid {
            return Ok(());
        }
        let Some(xid) = xid else {
            self.awaited = None;
            return Ok(());
        };
        let socket = match self.awaited.take() {
            Some((_, socket)) => socket,
            None => open(name)?,
        };
        packet::attach_filter(socket.as_fd(), &filter::reply6(xid))?;
        self.awaited = Some((xid, socket));
        Ok(())
    }

    /// The descriptor to wait for.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.awaited.as_ref().map(|(_, socket)| socket.as_fd())
    }

    /// The next message that has arrived, if there is one.
    pub fn reply(&self) -> Option<Vec<u8>> {
        let (_, socket) = self.awaited.as_ref()?;
        let mut buffer = [0; MESSAGE];
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        Some(buffer.get(..len).unwrap_or_default().to_vec())
    }

    /// Sends a message to all servers and relays on the link.
    ///
    /// # Errors
    /// The kernel's errno; `EADDRNOTAVAIL` while the interface has no link-local address.
    pub fn send(&self, name: &str, interface: u32, message: &[u8]) -> io::Result<()> {
        let own;
        let socket = match &self.awaited {
            Some((_, socket)) => socket,
            None => {
                own = open(name)?;
                &own
            }
        };
        let to = SockaddrIn6::from(SocketAddrV6::new(SERVERS, SERVER_PORT, 0, interface));
        sendto(socket.as_raw_fd(), message, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// Sends an ICMPv6 message to all routers on the link.
///
/// # Errors
/// The kernel's errno; `EADDRNOTAVAIL` while the interface has no link-local address.
pub fn ask_routers(name: &str, interface: u32, message: &[u8]) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (family, kind) = (AddressFamily::Inet6, SockType::Raw);
    let socket = socket(family, kind, flags, SockProtocol::IcmpV6)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    // Routers drop what may have come from elsewhere (RFC 4861 §6.1.1).
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &255)?;
    let to = SockaddrIn6::from(SocketAddrV6::new(ROUTERS, 0, 0, interface));
    sendto(socket.as_raw_fd(), message, &to, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

fn open(name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
    packet::attach_filter(socket.as_fd(), &filter::nothing())?;
    // What CAP_NET_ADMIN allows is more than the system's limit.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BACKLOG));
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?;
    Ok(socket)
}
