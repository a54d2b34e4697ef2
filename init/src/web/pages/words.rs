//! Numbers and times in words; pure.

use std::time::{Duration, SystemTime};

use crate::web::gokrazy::timestamp;

/// Bytes with a unit, three digits at most: `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let decimals = usize::from(value < 10.0);
    format!("{value:.decimals$} {unit}")
}

/// A span in its two largest units: `3 d 4 h`, `5 min 2 s`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, minutes) => format!("{minutes} min {rest} s"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// For how long a state has lasted that was entered at `ms` milliseconds on the boot clock.
pub(super) fn since(ms: u64, uptime: Option<Duration>) -> Option<String> {
    let lasted = uptime?.checked_sub(Duration::from_millis(ms))?;
    Some(span(lasted))
}

/// A clock's offset, in the unit that suits it: `-1.5 µs`, `0.8 ms`.
pub(super) fn offset(nanoseconds: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let value = nanoseconds as f64;
    match nanoseconds.unsigned_abs() {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// A moment for people: date and time to the second, UTC.
pub(super) fn moment(time: SystemTime) -> String {
    let text = timestamp(time);
    let seconds = text.get(..19).unwrap_or_default();
    format!("{} UTC", seconds.replace('T', " "))
}

/// How full something is, in percent.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_576, "1.0 MiB"),
            (12 * 1_048_576, "12 MiB"),
            (1_047_527_424, "999 MiB"),
            (29_527_900_160, "28 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn spans_and_offsets() {
        for (seconds, words) in [
            (0, "0 s"),
            (61, "1 min 1 s"),
            (3_725, "1 h 2 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
        for (ns, words) in [
            (-900, "-900 ns"),
            (-1_500, "-1.5 µs"),
            (800_000, "800.0 µs"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(offset(ns), words);
        }
    }

    #[test]
    fn moments_and_shares() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
        assert_eq!(moment(time), "2026-09-21 14:13:20 UTC");
        assert_eq!((percent(1, 3), percent(1, 0)), (33, 0));
    }
}
