//! Input devices (Documentation/input/input.rst).
#![expect(unsafe_code, reason = "ioctl(2) takes a raw pointer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// linux/input-event-codes.h: `KEY_MAX` is 0x2ff, one bit each.
const KEYS_BYTES: usize = 96;

/// linux/input.h: `EVIOCGBIT(EV_KEY, KEYS_BYTES)`; `ioctl`'s own type for it differs between C libraries.
const EVIOCGBIT_KEY: u32 = 0x8060_4521;

/// ioctl(2) `EVIOCGBIT`: whether an input device has a key of that code.
///
/// # Errors
/// The errno: `ENOTTY` for what is no input device, `ENODEV` for one that is gone.
pub fn has_key(device: impl AsFd, code: u16) -> io::Result<bool> {
    let mut keys = [0_u8; KEYS_BYTES];
    // SAFETY: the request writes at most as many bytes as it names, which is the array's length.
    let result = unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            EVIOCGBIT_KEY as _,
            keys.as_mut_ptr(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let byte = keys.get(usize::from(code / 8)).copied().unwrap_or(0);
    Ok(byte & 1 << (code % 8) != 0)
}
