//! Wall-clock time as a type of its own, so that it never mixes with the monotonic clock; pure.
//!
//! Monotonic moments are [`Duration`]s since an arbitrary origin; only the shell reads either clock.

use std::time::Duration;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// Seconds from 1900, NTP's epoch, to 1970, Unix's.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// A moment on the monotonic clock.
pub type Mono = Duration;

/// A moment of civil time (UTC), in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(i64);

impl Wall {
    /// From whole seconds since 1970; what does not fit (before 1677, after 2262) is clipped.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// From seconds and nanoseconds since 1970.
    pub const fn new(seconds: i64, nanoseconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    /// Nanoseconds within the second.
    pub const fn nanoseconds(self) -> i64 {
        self.0.rem_euclid(SECOND)
    }

    /// `self - earlier` in nanoseconds.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` moved by `offset` nanoseconds.
    pub const fn shifted(self, offset: i64) -> Self {
        Self(self.0.saturating_add(offset))
    }

    /// Reads an NTP timestamp (RFC 5905 section 6): 32 bits of seconds, 32 of fraction.
    ///
    /// The format repeats each 136 years; of all candidates this gives the first that is not before `pivot`,
    /// a moment that is certainly past. So 2036 needs no special case.
    pub fn from_ntp(timestamp: u64, pivot: Self) -> Self {
        let era = 1_i64 << 32;
        let seconds = i64::try_from(timestamp >> 32).unwrap_or_default() - NTP_TO_UNIX;
        let fraction = i64::try_from(timestamp & 0xffff_ffff).unwrap_or_default();
        let ahead = (seconds - pivot.seconds()).rem_euclid(era);
        Self::new(
            pivot.seconds().saturating_add(ahead),
            (fraction * SECOND) >> 32,
        )
    }

    /// The day as year, month (1 to 12) and day of the month (Gregorian calendar, UTC).
    pub fn civil(self) -> (i64, i64, i64) {
        // Days are counted from 1 March of year 0, so that the leap day is the last of its year.
        let days = self.seconds().div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day)
    }

    /// The moment of a civil date and time in UTC; the month counts from 1.
    pub fn from_civil(date: (i64, i64, i64), time: (i64, i64, i64)) -> Self {
        let (year, month, day) = date;
        let year = year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let (hour, minute, second) = time;
        Self::from_seconds(days * 86_400 + hour * 3_600 + minute * 60 + second)
    }
}

impl std::fmt::Display for Wall {
    /// As RFC 3339 in UTC, to the second.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.civil();
        let second = self.seconds().rem_euclid(86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(timestamp: u64, pivot: i64, want: i64) {
        assert_eq!(
            Wall::from_ntp(timestamp, Wall::from_seconds(pivot)).seconds(),
            want
        );
    }

    #[test]
    fn eras_are_chosen_from_the_pivot() {
        let in_2026 = 1_790_000_000;
        let ntp = |unix: i64| ((unix + NTP_TO_UNIX) as u64) << 32;
        check(ntp(in_2026), in_2026, in_2026);
        check(ntp(in_2026 + 86_400), in_2026, in_2026 + 86_400);
        // 2036-02-07T06:28:16Z: the 32 bits start again at zero.
        check(ntp(2_085_978_496), in_2026, 2_085_978_496);
        assert_eq!(ntp(2_085_978_496), 0);
        check(ntp(2_500_000_000), in_2026, 2_500_000_000);
        // A moment before the pivot can only be read as one in the next era.
        check(ntp(in_2026 - 1), in_2026, in_2026 - 1 + (1 << 32));
    }

    #[test]
    fn fractions_are_nanoseconds() {
        let half = Wall::from_ntp(0x8000_0000, Wall::from_seconds(2_085_978_496));
        assert_eq!(half.nanoseconds(), 500_000_000);
    }

    #[test]
    fn civil_dates_round_trip() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-25T16:00:00Z", 1_795_622_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("1969-12-31T23:59:59Z", -1),
        ] {
            let wall = Wall::from_seconds(seconds);
            assert_eq!(wall.to_string(), text);
            let of_day = seconds.rem_euclid(86_400);
            let time = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
            assert_eq!(Wall::from_civil(wall.civil(), time), wall);
        }
    }
}
