//! Link-layer sockets on one interface, and socket filters: `packet(7)`, `socket(7)`.
//!
//! `nix` can neither build a `sockaddr_ll` from an interface's index nor attach a filter nor read
//! `PACKET_AUXDATA`, so these calls live here.
//! What a frame contains, and which filter to attach, is the caller's business.
#![expect(
    unsafe_code,
    reason = "sockaddr_ll, sock_fprog and control messages are raw structures"
)]

use std::io;
use std::mem::{self, offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `ETH_P_IP`: IPv4.
pub const IPV4: u16 = 0x0800;
/// `ETH_P_ARP`: address resolution.
pub const ARP: u16 = 0x0806;
/// The Ethernet broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// One instruction of a classic BPF program: `struct sock_filter` of `<linux/filter.h>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(offset_of!(Instruction, jump_true) == offset_of!(libc::sock_filter, jt));
const _: () = assert!(offset_of!(Instruction, jump_false) == offset_of!(libc::sock_filter, jf));
const _: () = assert!(offset_of!(Instruction, operand) == offset_of!(libc::sock_filter, k));

/// What came with a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes written to the buffer.
    pub len: usize,
    /// The packet was longer than the buffer.
    pub truncated: bool,
    /// The packet was sent to this host, by its own address, broadcast or multicast (`sll_pkttype`).
    pub for_us: bool,
    /// The sender, on this machine, left the transport checksum to hardware that never saw the packet
    /// (`TP_STATUS_CSUMNOTREADY`), so the checksum in it is not one.
    pub checksum_missing: bool,
}

/// `socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)`: a socket that hears nothing until [`bind`].
///
/// # Errors
/// The kernel's errno; `EPERM` without `CAP_NET_RAW`.
pub fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(fd)?;
    // SAFETY: the call above has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, 1)`: lets [`receive`] tell whether checksums are real.
///
/// # Errors
/// The kernel's errno.
pub fn enable_auxiliary_data(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)
}

/// `setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program)`: replaces the socket's filter.
///
/// # Errors
/// The kernel's errno; `EINVAL` for a program that it refuses.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // The kernel copies the program during the call and does not write to it.
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// `bind(fd, {AF_PACKET, protocol, interface})`: starts to hear `protocol` on one interface.
///
/// # Errors
/// The kernel's errno; `ENODEV` if there is no such interface.
pub fn bind(fd: BorrowedFd<'_>, protocol: u16, interface: u32) -> io::Result<()> {
    let address = link_address(protocol, interface, [0; 6])?;
    // SAFETY: `address` is a valid sockaddr_ll, passed with its size.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_as_socklen::<libc::sockaddr_ll>(),
        )
    };
    check(result)
}

/// `sendto(fd, packet, 0, {AF_PACKET, protocol, interface, destination})`.
///
/// # Errors
/// The kernel's errno; `ENETDOWN` while the interface is down.
pub fn send(
    fd: BorrowedFd<'_>,
    packet: &[u8],
    protocol: u16,
    interface: u32,
    destination: [u8; 6],
) -> io::Result<()> {
    let address = link_address(protocol, interface, destination)?;
    // SAFETY: `packet` is readable for its length, and `address` is a valid sockaddr_ll passed with its size.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of_as_socklen::<libc::sockaddr_ll>(),
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Room for one `PACKET_AUXDATA` control message, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

const _: () = assert!(
    // SAFETY: CMSG_SPACE is arithmetic on its argument.
    unsafe { libc::CMSG_SPACE(size_of::<libc::tpacket_auxdata>() as u32) } as usize <= 64
);

/// `recvmsg(fd, buffer, MSG_TRUNC)`: the next packet, without waiting.
///
/// # Errors
/// The kernel's errno; `EAGAIN` if there is none, `ENETDOWN` once when the interface went down.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 64]);
    // SAFETY: both are plain structures of integers and pointers, for which all zeroes is a valid value.
    let (mut source, mut message): (libc::sockaddr_ll, libc::msghdr) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    message.msg_name = (&raw mut source).cast();
    message.msg_namelen = size_of_as_socklen::<libc::sockaddr_ll>();
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast();
    message.msg_controllen = 64;
    // SAFETY: every pointer in `message` leads to a live local buffer whose length stands beside it.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let full = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok(Received {
        len: full.min(buffer.len()),
        truncated: full > buffer.len(),
        for_us: matches!(
            source.sll_pkttype,
            libc::PACKET_HOST | libc::PACKET_BROADCAST | libc::PACKET_MULTICAST
        ),
        checksum_missing: auxiliary_status(&message) & libc::TP_STATUS_CSUMNOTREADY != 0,
    })
}

/// The `tp_status` of the first `PACKET_AUXDATA` in a message that `recvmsg` filled in; 0 without one.
fn auxiliary_status(message: &libc::msghdr) -> u32 {
    // SAFETY: recvmsg has set msg_control and msg_controllen to a valid sequence of control messages, whose buffer
    // the caller keeps alive; the length is checked before the payload, which may be unaligned, is read.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_PACKET
            || (*header).cmsg_type != libc::PACKET_AUXDATA
            || ((*header).cmsg_len as usize)
                < libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize
        {
            return 0;
        }
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
            .tp_status
    }
}

fn link_address(
    protocol: u16,
    interface: u32,
    destination: [u8; 6],
) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: a plain structure of integers, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&destination);
    Ok(address)
}

fn set_option<T>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is readable for the size passed; the two options used here take exactly this structure.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of_as_socklen::<T>(),
        )
    };
    check(result)
}

fn size_of_as_socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
