//! Switching an interface on.

#![expect(unsafe_code, reason = "nix has no interface ioctl")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// `ioctl(socket, SIOCSIFFLAGS, {name, flags | IFF_UP})`: switches interface `name` on; `socket` is any socket.
///
/// On the loopback interface the kernel then sets 127.0.0.1/8 and ::1 itself.
///
/// # Errors
/// The kernel's errno; `ENODEV` if there is no such interface, `EPERM` without `CAP_NET_ADMIN` (netdevice(7)).
pub fn interface_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    call(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just set this member of the union, and any bits are a value of it.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // IFF_UP is bit 0, so the conversion loses nothing.
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    call(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn call(
    socket: BorrowedFd<'_>,
    number: libc::c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: both requests read and write one `ifreq`, which `request` is, and keep no pointer.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, ptr::from_mut(request)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
