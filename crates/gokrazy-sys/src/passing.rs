//! Datagrams on Unix sockets that carry descriptors or the sender's identity (`unix(7)`, `cmsg(3)`).
#![expect(
    unsafe_code,
    reason = "a received descriptor is a number until it gets an owner"
)]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Room for control messages, in bytes: the sender's identity and as many descriptors as a datagram can carry
/// (`SCM_MAX_FD`, 253).
const CONTROL_SIZE: usize = 2048;

/// A buffer as the kernel wants it.
#[repr(align(8))]
struct Control([u8; CONTROL_SIZE]);

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
/// Every descriptor that the kernel made for us gets one, also where it could not make all that were sent: a sender
/// cannot fill our table with descriptors that nobody closes.
///
/// # Errors
/// The errno: `EAGAIN` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = Control([0; CONTROL_SIZE]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: an all-zero `msghdr` is the documented "nothing asked".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_SIZE as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names two buffers with their sizes, and all three outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut datagram = Datagram {
        length,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        descriptors: Vec::new(),
        sender: None,
    };
    // SAFETY: the kernel has filled in the header, and its control buffer is still there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: the macros give a pointer to a whole header in the control buffer, with its data behind it, or null
        // behind the last.
        unsafe { take(next, &mut datagram) };
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok(datagram)
}

/// Takes in one control message (`cmsg(3)`) that the kernel wrote.
///
/// # Safety
/// `message` points to a header in a control buffer that the kernel has filled, and may be used for the data behind it:
/// so it is no reference, which would stand for the header alone.
unsafe fn take(message: *const libc::cmsghdr, datagram: &mut Datagram) {
    // SAFETY: a whole header stands there.
    let header = unsafe { message.read() };
    // SAFETY: the data lie behind the header, in the same buffer.
    let data = unsafe { libc::CMSG_DATA(message) };
    // SAFETY: the macro only counts.
    let before = unsafe { libc::CMSG_LEN(0) };
    #[expect(
        clippy::unnecessary_cast,
        reason = "the field is narrower in musl's headers than in glibc's"
    )]
    let length = (header.cmsg_len as usize).saturating_sub(before as usize);
    match (header.cmsg_level, header.cmsg_type) {
        (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
            for at in 0..length / size_of::<RawFd>() {
                // SAFETY: so many numbers stand there. The kernel has just made these descriptors for us, and nobody
                // else knows their numbers.
                let fd =
                    unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(at).read_unaligned()) };
                datagram.descriptors.push(fd);
            }
        }
        (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
            // SAFETY: a whole structure stands there.
            let sender = unsafe { data.cast::<libc::ucred>().read_unaligned() };
            datagram.sender = Some(Sender {
                pid: u32::try_from(sender.pid).unwrap_or(0),
                uid: sender.uid,
            });
        }
        _ => {}
    }
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
