//! The sockets of one interface: packet sockets for what is sent before an address is ours, a UDP socket for what is
//! sent from it.
//!
//! A packet socket hears only the reply that is awaited or the address that is watched; its filter lets through
//! nothing else, so that nobody on the network can wake an idle client.
//! What is sent by broadcast leaves by a socket that all clients share and that hears nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use gokrazy_sys::packet;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, sendto, setsockopt, socket,
    sockopt,
};

use crate::conflict::Watch;
use crate::filter;
use crate::frame::{self, Arp, CLIENT_PORT, Checksum, SERVER_PORT};

/// Room for a frame of the usual size; a longer one is not a DHCP message to us, who said what we take.
const FRAME: usize = 2048;
/// Room in the kernel for packets that wait for us, in bytes: a burst of forged ones must not push the real reply out.
pub const BACKLOG: usize = 1024 * 1024;
/// ARP packets taken per wake-up, so that one interface cannot keep the others waiting.
const BATCH: usize = 16;

/// The sockets.
#[derive(Debug)]
pub struct Wire {
    interface: u32,
    mac: [u8; 6],
    replies: Ear<u32>,
    claims: Ear<Watch>,
    unicast: Option<OwnedFd>,
}

/// What came by the socket for replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A DHCP message, free of its headers.
    Message(Vec<u8>),
    /// A packet that is damaged, or carries no such message.
    Unsound,
}

/// A packet socket and what it listens to.
///
/// It is opened when first needed and then kept, deaf, while it has nothing to hear: to close one, the kernel waits
/// for all its processors, which takes longer than a whole exchange of messages.
#[derive(Debug)]
struct Ear<T> {
    socket: Option<OwnedFd>,
    topic: Option<T>,
}

impl<T: PartialEq> Ear<T> {
    fn new() -> Self {
        Self {
            socket: None,
            topic: None,
        }
    }

    /// Listens to `topic` by way of its `filter`, or to nothing.
    fn listen(
        &mut self,
        topic: Option<T>,
        filter: &[packet::Instruction],
        open: impl FnOnce(&[packet::Instruction]) -> io::Result<OwnedFd>,
    ) -> io::Result<()> {
        match &self.socket {
            Some(socket) => packet::attach_filter(socket.as_fd(), filter)?,
            None if topic.is_some() => self.socket = Some(open(filter)?),
            None => {}
        }
        self.topic = topic;
        Ok(())
    }
}

impl Wire {
    /// No sockets yet, for the interface with this index and hardware address.
    pub fn new(interface: u32, mac: [u8; 6]) -> Self {
        Self {
            interface,
            mac,
            replies: Ear::new(),
            claims: Ear::new(),
            unicast: None,
        }
    }

    /// Listens to replies of transaction `xid`, or to none.
    ///
    /// # Errors
    /// The errno of opening or filtering the socket.
    pub fn await_replies(&mut self, xid: Option<u32>) -> io::Result<()> {
        if self.replies.topic == xid {
            return Ok(());
        }
        self.unicast = None;
        let filter = xid.map_or_else(filter::nothing, |xid| filter::reply(xid, self.mac));
        let open = |filter: &[packet::Instruction]| open(packet::IPV4, self.interface, filter);
        self.replies.listen(xid, &filter, open)
    }

    /// Listens to the claims that `watch` names, or to none.
    ///
    /// # Errors
    /// The errno of opening or filtering the socket.
    pub fn watch(&mut self, watch: Option<Watch>) -> io::Result<()> {
        if self.claims.topic == watch {
            return Ok(());
        }
        let filter = watch.map_or_else(filter::nothing, |watch| filter::claims(watch, self.mac));
        let open = |filter: &[packet::Instruction]| open(packet::ARP, self.interface, filter);
        self.claims.listen(watch, &filter, open)
    }

    /// The descriptor that replies come by, once there is one.
    pub fn replies(&self) -> Option<BorrowedFd<'_>> {
        self.replies.socket.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor that claims come by, once there is one.
    pub fn claims(&self) -> Option<BorrowedFd<'_>> {
        self.claims.socket.as_ref().map(AsFd::as_fd)
    }

    /// The next packet that has arrived for replies' ears, if there is one.
    pub fn reply(&self) -> Option<Heard> {
        let socket = self.replies.socket.as_ref()?;
        let mut buffer = [0; FRAME];
        let (packet, checksum) = receive(socket, &mut buffer)?;
        let message = packet.and_then(|packet| frame::unwrap(packet, checksum).ok());
        Some(match message {
            Some(message) => Heard::Message(message.to_vec()),
            None => Heard::Unsound,
        })
    }

    /// The ARP packets that have arrived.
    pub fn arps(&self) -> Vec<Arp> {
        let mut packets = Vec::new();
        let mut buffer = [0; FRAME];
        for _ in 0..BATCH {
            let socket = self.claims.socket.as_ref();
            match socket.and_then(|socket| receive(socket, &mut buffer)) {
                Some((packet, _)) => packets.extend(packet.and_then(Arp::decode)),
                None => break,
            }
        }
        packets
    }

    /// Sends a DHCP message to all servers on the link.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn broadcast(
        &self,
        sender: BorrowedFd<'_>,
        source: Ipv4Addr,
        message: &[u8],
    ) -> io::Result<()> {
        let packet = frame::wrap(source, Ipv4Addr::BROADCAST, message);
        packet::send(
            sender,
            &packet,
            packet::IPV4,
            self.interface,
            packet::BROADCAST,
        )
    }

    /// Sends an ARP packet to all on the link.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn send_arp(&self, sender: BorrowedFd<'_>, arp: &Arp) -> io::Result<()> {
        packet::send(
            sender,
            &arp.encode(),
            packet::ARP,
            self.interface,
            packet::BROADCAST,
        )
    }

    /// Sends a DHCP message to one server, by the kernel's routes and neighbours.
    ///
    /// # Errors
    /// The kernel's errno; `EADDRNOTAVAIL` if the interface lacks the address.
    pub fn unicast(
        &mut self,
        name: &str,
        source: Ipv4Addr,
        server: Ipv4Addr,
        message: &[u8],
    ) -> io::Result<()> {
        let socket = self.hold_port(name, source)?;
        let to = SockaddrIn::from(SocketAddrV4::new(server, SERVER_PORT));
        let sent = sendto(socket.as_raw_fd(), message, &to, MsgFlags::MSG_DONTWAIT);
        sent.map(|_| ()).map_err(io::Error::from)
    }

    /// Takes the client's port at our address until the exchange is over: without that the kernel would answer a
    /// server's reply, which the packet socket hears, with "port unreachable".
    ///
    /// # Errors
    /// The kernel's errno; `EADDRNOTAVAIL` if the interface lacks the address.
    pub fn hold_port(&mut self, name: &str, address: Ipv4Addr) -> io::Result<BorrowedFd<'_>> {
        let socket = match self.unicast.take() {
            Some(socket) => socket,
            None => open_unicast(name, address)?,
        };
        Ok(OwnedFd::as_fd(self.unicast.insert(socket)))
    }
}

/// Filter first, then bind: nothing unfiltered is ever queued.
fn open(protocol: u16, interface: u32, filter: &[packet::Instruction]) -> io::Result<OwnedFd> {
    let socket = packet::open()?;
    packet::attach_filter(socket.as_fd(), filter)?;
    packet::enable_auxiliary_data(socket.as_fd())?;
    // What CAP_NET_ADMIN allows is more than the system's limit.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BACKLOG));
    packet::bind(socket.as_fd(), protocol, interface)?;
    Ok(socket)
}

fn open_unicast(name: &str, source: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    packet::attach_filter(socket.as_fd(), &filter::nothing())?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    let address = SocketAddrV4::new(source, CLIENT_PORT);
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(socket)
}

/// The next packet, if there is one; its content if it is whole and for us.
fn receive<'a>(
    socket: &OwnedFd,
    buffer: &'a mut [u8; FRAME],
) -> Option<(Option<&'a [u8]>, Checksum)> {
    let received = match packet::receive(socket.as_fd(), buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            return Some((None, Checksum::Present));
        }
        // Nothing more; or the interface went down, which the link's events tell as well.
        Err(_) => return None,
    };
    let checksum = match received.checksum_missing {
        true => Checksum::Missing,
        false => Checksum::Present,
    };
    let is_whole = received.for_us && !received.truncated;
    Some((buffer.get(..received.len).filter(|_| is_whole), checksum))
}
