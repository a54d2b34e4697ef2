//! The kernel's random pool: `RNDADDENTROPY` of `random(4)`, and `getrandom(2)` with flags.
//!
//! Plain reading is the `getrandom` crate's, plain mixing is `write(2)`; here is what neither can do.
//! Which bytes deserve credit is the caller's question.
#![expect(
    unsafe_code,
    reason = "the ioctl and getrandom(2) with flags take raw pointers"
)]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

/// Most bytes that one call of [`add`] takes: the size of the pool of kernels before 5.18.
pub const ADD_MAX: usize = 512;

/// `struct rand_pool_info` of `<linux/random.h>`, its open-ended buffer closed at [`ADD_MAX`] bytes.
///
/// Two C `int`s, not two words of 64 bits: a request of the latter layout is taken by the kernel as "credit, and mix
/// nothing".
#[repr(C)]
struct PoolInfo {
    /// Bits to credit.
    entropy_count: c_int,
    /// Bytes in `buf`.
    buf_size: c_int,
    buf: [u8; ADD_MAX],
}

const _: () = assert!(size_of::<c_int>() == 4);
const _: () = assert!(size_of::<PoolInfo>() == 8 + ADD_MAX);
const _: () = assert!(offset_of!(PoolInfo, entropy_count) == 0);
const _: () = assert!(offset_of!(PoolInfo, buf_size) == 4);
const _: () = assert!(offset_of!(PoolInfo, buf) == 8);

/// `_IOW('R', 0x03, int [2])`; the bits for size and direction differ between architectures.
const RNDADDENTROPY: libc::Ioctl = nix::request_code_write!(b'R', 0x03, 2 * size_of::<c_int>());

/// The numbers that `tests/entropy.rs` compares with the C header: request, size of the fixed part, and the offsets of
/// `entropy_count`, `buf_size` and `buf`.
#[doc(hidden)]
pub const LAYOUT: [u32; 5] = [
    RNDADDENTROPY as u32,
    offset_of!(PoolInfo, buf) as u32,
    offset_of!(PoolInfo, entropy_count) as u32,
    offset_of!(PoolInfo, buf_size) as u32,
    offset_of!(PoolInfo, buf) as u32,
];

/// `ioctl(random, RNDADDENTROPY, …)`: mixes `bytes` into the pool and credits `bits` of entropy (`random(4)`).
///
/// # Errors
/// `EINVAL` for more than [`ADD_MAX`] bytes or for more bits than the bytes can hold, without a call; `EPERM` without
/// `CAP_SYS_ADMIN` in the initial user namespace.
pub fn add(random: BorrowedFd<'_>, bytes: &[u8], bits: u32) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let mut info = PoolInfo {
        entropy_count: c_int::try_from(bits).map_err(|_| invalid())?,
        buf_size: c_int::try_from(bytes.len()).map_err(|_| invalid())?,
        buf: [0; ADD_MAX],
    };
    if bits as usize > bytes.len().saturating_mul(8) {
        return Err(invalid());
    }
    let buffer = info.buf.get_mut(..bytes.len()).ok_or_else(invalid)?;
    buffer.copy_from_slice(bytes);
    // SAFETY: the descriptor is open for the borrow's life; the kernel reads 8 bytes and `buf_size` more, and both lie
    // within `info`, which lives across the call.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `getrandom(buffer, GRND_NONBLOCK)`: bytes of the pool, if it is initialised; returns how many were written.
///
/// # Errors
/// `EAGAIN` while the pool is not initialised; `ENOSYS` before Linux 3.17.
pub fn read_nonblocking(buffer: &mut [u8]) -> io::Result<usize> {
    getrandom(buffer, libc::GRND_NONBLOCK)
}

/// `getrandom(buffer, GRND_INSECURE)`: bytes of the pool, initialised or not; returns how many were written.
///
/// # Errors
/// `EINVAL` before Linux 5.6.
pub fn read_insecure(buffer: &mut [u8]) -> io::Result<usize> {
    getrandom(buffer, libc::GRND_INSECURE)
}

fn getrandom(buffer: &mut [u8], flags: libc::c_uint) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one exclusive slice, which the kernel fills at most.
    let written = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_no_pool_is_refused_with_an_errno() {
        let file = File::open("/dev/null").unwrap();
        let error = add(file.as_fd(), b"x", 8).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn more_than_fits_and_more_bits_than_bytes_are_refused_before_the_call() {
        let file = File::open("/dev/null").unwrap();
        for (bytes, bits) in [(ADD_MAX + 1, 0), (0, 1), (1, 9), (8, u32::MAX)] {
            let error = add(file.as_fd(), &vec![0; bytes], bits).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{bytes} {bits}");
        }
    }

    #[test]
    fn the_pool_gives_bytes_either_way() {
        let mut buffer = [0; 32];
        assert_eq!(read_insecure(&mut buffer).unwrap(), 32);
        assert_ne!(buffer, [0; 32]);
    }
}
