//! Datagrams on Unix sockets that carry descriptors or the sender's identity (`unix(7)`, `cmsg(3)`).
#![expect(
    unsafe_code,
    reason = "a received descriptor is a number until it gets an owner"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, sendmsg,
};

/// Most descriptors that one datagram carries.
pub const MAX_DESCRIPTORS: usize = 2;

/// A datagram as it came in.
#[derive(Debug)]
pub struct Datagram {
    /// Bytes written to the buffer.
    pub length: usize,
    /// Whether the datagram was longer than the buffer.
    pub truncated: bool,
    /// Descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Who sent it, where the socket has `SO_PASSCRED`.
    pub sender: Option<Sender>,
}

/// Identity of a sender, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Process id in our namespace; 0 if it has none there.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// sendmsg(2) with `SCM_RIGHTS`: sends `bytes` and copies of `descriptors` without waiting.
///
/// # Errors
/// The errno: `EAGAIN` when the socket's buffer is full, `EPIPE` when the peer is gone, `ETOOMANYREFS` when too
/// many descriptors are on their way.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )?;
    Ok(())
}

/// recvmsg(2): receives one datagram without waiting; descriptors that came with it get an owner.
///
/// # Errors
/// The errno: `EAGAIN` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS], UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags,
    )?;
    let mut datagram = Datagram {
        length: message.bytes,
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
        descriptors: Vec::new(),
        sender: None,
    };
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmRights(numbers) => {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows their numbers.
                let owned = numbers
                    .into_iter()
                    .map(|number| unsafe { OwnedFd::from_raw_fd(number) });
                datagram.descriptors.extend(owned);
            }
            ControlMessageOwned::ScmCredentials(sender) => {
                datagram.sender = Some(Sender {
                    pid: u32::try_from(sender.pid()).unwrap_or(0),
                    uid: sender.uid(),
                });
            }
            _ => {}
        }
    }
    Ok(datagram)
}

/// Takes the descriptor `number`, which the process was started with (`SD_LISTEN_FDS`-like hand-over), as its own.
///
/// # Errors
/// `EBADF` if there is none; `EINVAL` for standard input, output and error.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_GETFD takes any number and touches nothing.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller claims it before it opens any of its own.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the descriptor is ours.
    unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
    }
    Ok(fd)
}
