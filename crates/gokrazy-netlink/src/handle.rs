//! The socket that changes and lists kernel state; one request at a time, answered before the call returns.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::codec::{Builder, messages, nest, read_u32};
use crate::event::Event;
use crate::types::{Address, IFLA_VLAN_ID, Link, Route};

/// The kernel answers at once; this only keeps a bug from hanging the daemon.
const PATIENCE_SECONDS: i64 = 2;
/// The kernel fills at most this much per datagram of a dump.
const BUFFER: usize = 32 * 1024;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

const UP: u32 = libc::IFF_UP as u32;

/// A socket for requests.
#[derive(Debug)]
pub struct Handle {
    socket: OwnedFd,
    sequence: u32,
}

impl Handle {
    /// Opens the socket.
    ///
    /// # Errors
    /// The errno of making or binding it.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE_SECONDS, 0),
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Lists the links.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.dump(libc::RTM_GETLINK, &[0; 16], |event| {
            if let Event::Link(link) = event {
                links.push(link);
            }
        })?;
        Ok(links)
    }

    /// Lists the addresses of `interface`, of both families.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn addresses(&mut self, interface: u32) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        self.dump(libc::RTM_GETADDR, &[0; 8], |event| {
            if let Event::Address(address) = event
                && address.interface == interface
            {
                addresses.push(address);
            }
        })?;
        Ok(addresses)
    }

    /// Lists the unicast routes of the main table that leave by `interface`, of both families.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn routes(&mut self, interface: u32) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        self.dump_raw(libc::RTM_GETROUTE, &[0; 12], |kind, body| {
            if kind == libc::RTM_NEWROUTE
                && let Some(route) = Route::decode(body)
                && route.interface == interface
            {
                routes.push(route);
            }
        })?;
        Ok(routes)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_up(&mut self, interface: u32) -> io::Result<()> {
        self.change_link(interface, UP, UP, |_| {})
    }

    /// Sets a link down.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_down(&mut self, interface: u32) -> io::Result<()> {
        self.change_link(interface, 0, UP, |_| {})
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// The kernel's errno; `EINVAL` for a value that the device cannot have.
    pub fn set_mtu(&mut self, interface: u32, mtu: u32) -> io::Result<()> {
        self.change_link(interface, 0, 0, |builder| {
            builder.attribute_u32(libc::IFLA_MTU, mtu);
        })
    }

    /// Adds a VLAN interface called `name` with this id (1 to 4094) on the link `parent`.
    ///
    /// # Errors
    /// The kernel's errno; `EEXIST` if the name is taken.
    pub fn add_vlan(&mut self, parent: u32, name: &str, id: u16) -> io::Result<()> {
        let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
        let data = nest(&[(IFLA_VLAN_ID, &id.to_ne_bytes())]);
        let info = nest(&[
            (libc::IFLA_INFO_KIND, b"vlan"),
            (libc::IFLA_INFO_DATA, &data),
        ]);
        self.request(|sequence| {
            let mut builder = Builder::new(libc::RTM_NEWLINK, flags, sequence, &[0; 16]);
            builder
                .attribute_u32(libc::IFLA_LINK, parent)
                .attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
                .attribute(libc::IFLA_LINKINFO, &info);
            builder.finish()
        })
    }

    /// Notes `alias` of the link that is called `name`; the kernel keeps it with the link, and makes nothing of it.
    ///
    /// # Errors
    /// The kernel's errno; `EINVAL` for one of 256 bytes or more.
    pub fn set_alias(&mut self, name: &str, alias: &str) -> io::Result<()> {
        self.change_link(0, 0, 0, |builder| {
            builder
                .attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
                .attribute(libc::IFLA_IFALIAS, alias.as_bytes());
        })
    }

    /// Removes a software interface.
    ///
    /// # Errors
    /// The kernel's errno; `ENODEV` if there is none.
    pub fn delete_link(&mut self, interface: u32) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend(interface.to_ne_bytes());
        body.extend([0; 8]);
        self.request(|sequence| {
            Builder::new(libc::RTM_DELLINK, REQUEST | ACK, sequence, &body).finish()
        })
    }

    /// Adds an address, or renews its lifetimes, metric and owner if the interface has it.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn put_address(&mut self, address: &Address) -> io::Result<()> {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.request(|sequence| address.encode(libc::RTM_NEWADDR, flags, sequence))
    }

    /// Removes an address.
    ///
    /// # Errors
    /// The kernel's errno; `EADDRNOTAVAIL` if the interface does not have it.
    pub fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        self.request(|sequence| address.encode(libc::RTM_DELADDR, REQUEST | ACK, sequence))
    }

    /// Adds a route beside others to the same destination.
    ///
    /// # Errors
    /// The kernel's errno; `EEXIST` if the very same route is there.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        // Without NLM_F_REPLACE, so that another interface's route of equal metric stays.
        let flags = REQUEST | ACK | CREATE | APPEND;
        self.request(|sequence| route.encode(libc::RTM_NEWROUTE, flags, sequence))
    }

    /// Removes a route.
    ///
    /// # Errors
    /// The kernel's errno; `ESRCH` if there is none.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        self.request(|sequence| route.encode(libc::RTM_DELROUTE, REQUEST | ACK, sequence))
    }

    /// Gives a link those of `flags` that are in `mask`.
    fn change_link(
        &mut self,
        interface: u32,
        flags: u32,
        mask: u32,
        more: impl FnOnce(&mut Builder),
    ) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend(interface.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend(mask.to_ne_bytes());
        self.request(|sequence| {
            let mut builder = Builder::new(libc::RTM_NEWLINK, REQUEST | ACK, sequence, &body);
            more(&mut builder);
            builder.finish()
        })
    }

    fn dump(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(Event)) -> io::Result<()> {
        self.dump_raw(kind, body, |kind, body| {
            let message = crate::codec::Message {
                kind,
                flags: 0,
                sequence: 0,
                body,
            };
            if let Some(event) = Event::decode(&message) {
                each(event);
            }
        })
    }

    fn dump_raw(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let request = Builder::new(kind, REQUEST | DUMP, sequence, body).finish();
        self.transact(sequence, &request, &mut each)
    }

    fn request(&mut self, encode: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        let sequence = self.next_sequence();
        let request = encode(sequence);
        self.transact(sequence, &request, &mut |_, _| {})
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends `request` and reads until it is acknowledged, refused, or its dump is done.
    fn transact(
        &mut self,
        sequence: u32,
        request: &[u8],
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        send(self.socket.as_raw_fd(), request, MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = receive(&self.socket, &mut buffer)?;
            // An answer to an earlier request that timed out carries that one's number.
            let datagram = buffer.get(..len).unwrap_or_default();
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                match message.kind {
                    NLMSG_ERROR => return outcome(message.body),
                    NLMSG_DONE => return Ok(()),
                    kind => each(kind, message.body),
                }
            }
        }
    }
}

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

/// `struct nlmsgerr` opens with a negated errno, 0 for success.
fn outcome(body: &[u8]) -> io::Result<()> {
    match read_u32(body, 0).map(|code| code.cast_signed()) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads one datagram of the kernel's; those of other processes (which any user can send) are passed over.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let (len, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer)?;
        if sender.is_some_and(|address| address.pid() == 0) {
            return Ok(len);
        }
    }
}
