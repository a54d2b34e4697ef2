//! The kernel's clock discipline: `adjtimex(2)`.
//!
//! Reading and stepping the clock need no unsafe code: `nix::time` has `clock_gettime(2)` and `clock_settime(2)`.
//! The calls go through the C library's functions, so that a preloaded stand-in can take them in tests.
#![expect(
    unsafe_code,
    reason = "adjtimex takes a pointer, and nix does not wrap it"
)]

use std::io;
use std::mem::MaybeUninit;

/// What the kernel says of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelClock {
    /// Frequency correction in force, in 2⁻¹⁶ ppm; positive: the clock is made to run faster.
    pub frequency: i64,
    /// Status bits, `STA_…` of `<linux/timex.h>`.
    pub status: i32,
    /// Bound of the error in microseconds; it grows by 500 a second until someone sets it.
    pub max_error_us: i64,
}

/// One correction for the kernel's phase-locked loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PllUpdate {
    /// Phase to slew away, in nanoseconds, at most half a second; positive: the clock is behind.
    pub offset_ns: i64,
    /// Frequency correction in 2⁻¹⁶ ppm, at most 500 ppm either way.
    pub frequency: i64,
    /// Bound of the error in microseconds.
    pub max_error_us: i64,
    /// Estimate of the error in microseconds.
    pub est_error_us: i64,
    /// The loop's time constant: the phase shrinks by 2^-(2 + this) each second (0 to 10).
    pub time_constant: i64,
    /// Status bits to set, `STA_…`; every writable bit that is absent is cleared.
    pub status: i32,
}

/// Status bit: steer by the phase-locked loop.
pub const STA_PLL: i32 = libc::STA_PLL;
/// Status bit: the loop corrects the phase and leaves the frequency alone.
pub const STA_FREQHOLD: i32 = libc::STA_FREQHOLD;
/// Status bit: insert a second at the end of the UTC day.
pub const STA_INS: i32 = libc::STA_INS;
/// Status bit: delete the last second of the UTC day.
pub const STA_DEL: i32 = libc::STA_DEL;
/// Status bit: the clock is not synchronised.
pub const STA_UNSYNC: i32 = libc::STA_UNSYNC;

/// `adjtimex({modes = 0})`: reads the discipline's state.
///
/// # Errors
/// The errno; `EPERM` in a sandbox that bans the call.
pub fn read() -> io::Result<KernelClock> {
    let mut timex = zeroed();
    adjtimex(&mut timex)?;
    Ok(KernelClock {
        frequency: timex.freq,
        status: timex.status,
        max_error_us: timex.maxerror,
    })
}

/// `adjtimex({modes = ADJ_FREQUENCY, freq})`: sets the frequency correction, in 2⁻¹⁶ ppm.
///
/// # Errors
/// The errno; `EPERM` without `CAP_SYS_TIME`.
pub fn set_frequency(frequency: i64) -> io::Result<()> {
    let mut timex = zeroed();
    timex.modes = libc::ADJ_FREQUENCY;
    timex.freq = frequency;
    adjtimex(&mut timex)
}

/// `adjtimex({modes = ADJ_OFFSET | ADJ_FREQUENCY | ADJ_STATUS | ADJ_TIMECONST | ADJ_MAXERROR | ADJ_ESTERROR |
/// ADJ_NANO, …})`: steers phase and frequency, and sets status and error bounds, in one call.
///
/// # Errors
/// The errno; `EPERM` without `CAP_SYS_TIME`.
pub fn steer(update: &PllUpdate) -> io::Result<()> {
    let mut timex = zeroed();
    timex.modes = libc::ADJ_OFFSET
        | libc::ADJ_FREQUENCY
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR
        | libc::ADJ_NANO;
    timex.offset = update.offset_ns;
    timex.freq = update.frequency;
    timex.maxerror = update.max_error_us;
    timex.esterror = update.est_error_us;
    timex.constant = update.time_constant;
    timex.status = update.status;
    adjtimex(&mut timex)
}

fn zeroed() -> libc::timex {
    // SAFETY: `timex` consists of integers and padding alone, for which all zero bits are a valid value.
    unsafe { MaybeUninit::<libc::timex>::zeroed().assume_init() }
}

fn adjtimex(timex: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the pointer comes from an exclusive reference to a whole `timex`, valid for the call.
    let state = unsafe { libc::adjtimex(timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_needs_no_privilege() {
        let clock = read().unwrap();
        assert!(clock.frequency.abs() <= 500 << 16, "{clock:?}");
    }
}
