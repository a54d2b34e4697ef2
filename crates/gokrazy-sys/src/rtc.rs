//! The hardware clock: `RTC_RD_TIME` and `RTC_SET_TIME` of `rtc(4)`.
//!
//! What the fields mean (UTC or not) and which clock to trust is the caller's.
#![expect(unsafe_code, reason = "the ioctls of rtc(4) take a pointer")]

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;

/// `struct rtc_time` of `<linux/rtc.h>`: nine C `int`s.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtcTime {
    /// Seconds, 0 to 59.
    pub second: i32,
    /// Minutes, 0 to 59.
    pub minute: i32,
    /// Hours, 0 to 23.
    pub hour: i32,
    /// Day of the month, 1 to 31.
    pub day: i32,
    /// Month, 0 to 11.
    pub month: i32,
    /// Years since 1900.
    pub year: i32,
    /// Unused by the kernel.
    pub weekday: i32,
    /// Unused by the kernel.
    pub yearday: i32,
    /// Unused by the kernel.
    pub daylight: i32,
}

const _: () = assert!(size_of::<RtcTime>() == 36);
const _: () = assert!(offset_of!(RtcTime, day) == 12 && offset_of!(RtcTime, year) == 20);

/// `_IOR('p', 0x09, struct rtc_time)`.
const RTC_RD_TIME: u32 = 0x8024_7009;
/// `_IOW('p', 0x0a, struct rtc_time)`.
const RTC_SET_TIME: u32 = 0x4024_700a;

/// `ioctl(rtc, RTC_RD_TIME, …)`: the time that the hardware clock shows.
///
/// # Errors
/// The errno; `EINVAL` if the clock holds no valid time, as after its battery died.
pub fn read(rtc: &File) -> io::Result<RtcTime> {
    let mut time = RtcTime::default();
    // SAFETY: the descriptor is open, and the pointer is to a whole `rtc_time`, which the kernel fills.
    let result = unsafe { libc::ioctl(rtc.as_raw_fd(), RTC_RD_TIME as _, &raw mut time) };
    checked(result).map(|()| time)
}

/// `ioctl(rtc, RTC_SET_TIME, …)`: sets the hardware clock.
///
/// # Errors
/// The errno; `EACCES` without `CAP_SYS_TIME`.
pub fn set(rtc: &File, time: &RtcTime) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the pointer is to a whole `rtc_time`, which the kernel only reads.
    let result =
        unsafe { libc::ioctl(rtc.as_raw_fd(), RTC_SET_TIME as _, std::ptr::from_ref(time)) };
    checked(result)
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_clock_is_refused_with_an_errno() {
        let file = File::open("/dev/null").unwrap();
        assert!(read(&file).is_err());
        assert!(set(&file, &RtcTime::default()).is_err());
    }
}
