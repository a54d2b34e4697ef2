//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst).
#![expect(unsafe_code, reason = "ioctl(2) takes a raw pointer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// linux/watchdog.h: `_IOWR('W', 6, int)`; `ioctl`'s own type for it differs between C libraries.
const WDIOC_SETTIMEOUT: u32 = 0xc004_5706;

/// ioctl(2) `WDIOC_SETTIMEOUT`: sets the time after which an unfed watchdog reboots, in whole seconds; returns the time
/// that the device took.
///
/// # Errors
/// The errno: `EOPNOTSUPP` or `ENOTTY` for a device with a fixed time, `EINVAL` for a time out of its range.
pub fn set_timeout(device: impl AsFd, timeout: Duration) -> io::Result<Duration> {
    let mut seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
    // SAFETY: the request reads and writes one int, which outlives the call.
    let result = unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            WDIOC_SETTIMEOUT as _,
            &raw mut seconds,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::from_secs(u64::from(seconds.unsigned_abs())))
}
