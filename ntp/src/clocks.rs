//! The machine's clocks: read, set, steered; the hardware clock.
//!
//! When and by how much is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use gokrazy_sys::clock::{self, PllUpdate, STA_DEL, STA_FREQHOLD, STA_INS, STA_PLL};
use gokrazy_sys::rtc::{self, RtcTime};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use rsntp::LeapIndicator;

use crate::action::{Moment, Steering};
use crate::discipline::to_kernel;
use crate::wall::{Mono, SECOND, Wall};

/// Both clocks now, read so close together that their difference means something.
pub fn moment() -> Moment {
    let mut best = read_pair();
    for _ in 0..2 {
        if best.1 < Duration::from_micros(20) {
            break;
        }
        let again = read_pair();
        if again.1 < best.1 {
            best = again;
        }
    }
    best.0
}

/// A reading, and how long it took.
fn read_pair() -> (Moment, Duration) {
    let before = monotonic();
    let wall = wall();
    let now = monotonic();
    let took = now.saturating_sub(before);
    (
        Moment {
            now: before + took / 2,
            wall,
        },
        took,
    )
}

/// `CLOCK_MONOTONIC`; zero on a kernel that lacks it, which none does.
pub fn monotonic() -> Mono {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Mono::ZERO, Duration::from)
}

/// `CLOCK_REALTIME`.
pub fn wall() -> Wall {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Wall::from_seconds(0), |time| {
        Wall::new(time.tv_sec(), time.tv_nsec())
    })
}

/// Sets the clock to `time`.
///
/// # Errors
/// The errno; `EPERM` without `CAP_SYS_TIME`.
pub fn set(time: Wall) -> io::Result<()> {
    let spec = TimeSpec::new(time.seconds(), time.nanoseconds());
    Ok(clock_settime(ClockId::CLOCK_REALTIME, spec)?)
}

/// Hands a correction to the kernel; error bounds go with it, or the kernel would call itself unsynchronised within
/// a second and not write the hardware clock.
///
/// # Errors
/// The errno; `EPERM` without `CAP_SYS_TIME`.
pub fn steer(steering: &Steering) -> io::Result<()> {
    let microseconds = |ns: u64| i64::try_from(ns.div_ceil(1_000)).unwrap_or(i64::MAX);
    let leap = match steering.leap {
        LeapIndicator::LastMinuteHas61Seconds => STA_INS,
        LeapIndicator::LastMinuteHas59Seconds => STA_DEL,
        LeapIndicator::NoWarning | LeapIndicator::AlarmCondition => 0,
    };
    clock::steer(&PllUpdate {
        offset_ns: steering.correction.slew,
        frequency: to_kernel(steering.correction.frequency),
        max_error_us: microseconds(steering.bound),
        est_error_us: microseconds(steering.correction.deviation),
        time_constant: i64::from(steering.correction.time_constant),
        status: STA_PLL | STA_FREQHOLD | leap,
    })
}

/// What the hardware clock shows, taken as UTC.
///
/// # Errors
/// The errno of opening or reading it, or a time that is none.
pub fn read_rtc(path: &Path) -> io::Result<Wall> {
    let time = rtc::read(&open_rtc(path)?)?;
    from_rtc(&time).ok_or(io::Error::from(io::ErrorKind::InvalidData))
}

/// Sets the hardware clock to `wall` in UTC, rounded to the second.
///
/// # Errors
/// The errno of opening or setting it.
pub fn write_rtc(path: &Path, wall: Wall) -> io::Result<()> {
    rtc::set(&open_rtc(path)?, &to_rtc(wall))
}

/// Nothing for a date that is none, as a clock shows whose battery died.
fn from_rtc(time: &RtcTime) -> Option<Wall> {
    let date = (
        i64::from(time.year) + 1_900,
        i64::from(time.month) + 1,
        i64::from(time.day),
    );
    let of_day = (
        i64::from(time.hour),
        i64::from(time.minute),
        i64::from(time.second),
    );
    let wall = Wall::from_civil(date, of_day);
    (wall.civil() == date).then_some(wall)
}

fn to_rtc(wall: Wall) -> RtcTime {
    let wall = wall.shifted(SECOND / 2);
    let (year, month, day) = wall.civil();
    let second = wall.seconds().rem_euclid(86_400);
    let int = |value: i64| i32::try_from(value).unwrap_or_default();
    RtcTime {
        second: int(second % 60),
        minute: int(second / 60 % 60),
        hour: int(second / 3_600),
        day: int(day),
        month: int(month - 1),
        year: int(year - 1_900),
        ..RtcTime::default()
    }
}

/// Never blocks, should someone have put a pipe there.
fn open_rtc(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardware_clock_is_read_as_it_is_written() {
        let wall = Wall::new(1_795_622_399, 600_000_000);
        let time = to_rtc(wall);
        assert_eq!((time.year, time.month, time.day), (126, 10, 25));
        assert_eq!((time.hour, time.minute, time.second), (16, 0, 0));
        assert_eq!(from_rtc(&time), Some(Wall::from_seconds(1_795_622_400)));
    }

    #[test]
    fn a_date_that_is_none_is_no_time() {
        let wrong = RtcTime {
            day: 31,
            month: 1,
            year: 126,
            ..RtcTime::default()
        };
        assert_eq!(from_rtc(&wrong), None);
        assert_eq!(
            from_rtc(&RtcTime {
                month: -1,
                ..RtcTime::default()
            }),
            None
        );
    }

    #[test]
    fn both_clocks_are_read_together() {
        let (first, second) = (moment(), moment());
        assert!(second.now >= first.now && second.wall > Wall::from_seconds(0));
    }
}
