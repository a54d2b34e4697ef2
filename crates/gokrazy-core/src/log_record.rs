//! One line of a log, as logd writes it below `<run-dir>/log/<name>/`; pure.
//!
//! `BOOT WALL STREAM PRIORITY TEXT`, for example
//! `12.345678 2026-11-25T16:15:05.123Z out 6 listening on port 80`.
//! The text is kept byte for byte, so it need not be UTF-8.
//! Segments are files named by a growing number; read in the order of their names they are the log.

use std::fmt;
use std::str::FromStr;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The kernel log.
    Kernel,
}

impl Stream {
    /// The word in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Kernel => "kernel",
        }
    }
}

impl FromStr for Stream {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Out, Self::Err, Self::Kernel]
            .into_iter()
            .find(|stream| stream.as_str() == word)
            .ok_or(())
    }
}

/// When a line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Microseconds on the boot clock, which no setting of the time moves.
    pub boot_us: u64,
    /// Unix milliseconds by the wall clock of that moment, which may have been wrong.
    pub wall_ms: i64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.boot_us / 1_000_000, self.boot_us % 1_000_000);
        write!(f, "{seconds}.{micros:06} {}", Rfc3339(self.wall_ms))
    }
}

/// A moment in Unix milliseconds, shown as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(pub i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, milli) = (rest / 1000 % 60, rest % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: years are counted from March,
/// so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// A line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Seconds on the boot clock, as written.
    pub boot: &'a str,
    /// The wall clock, as written (RFC 3339).
    pub wall: &'a str,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the line goes on in the next record of the stream: it was longer than a record may be.
    pub continues: bool,
    /// syslog(3)'s priority, 0 (emergency) to 7 (debug).
    pub priority: u8,
    /// The line without its end.
    pub text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record, without its line break; `None` if it is none.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(5, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(fields.next()?).ok();
        let (boot, wall, stream, priority) = (word()?, word()?, word()?, word()?);
        let continues = stream.ends_with('+');
        Some(Self {
            boot,
            wall,
            stream: stream.trim_end_matches('+').parse().ok()?,
            continues,
            priority: priority.parse().ok().filter(|priority| *priority <= 7)?,
            text: fields.next()?,
        })
    }
}

/// The part of a record before its text, with the blank behind it.
pub fn prefix(times: Times, stream: Stream, continues: bool, priority: u8) -> String {
    let plus = if continues { "+" } else { "" };
    format!("{times} {}{plus} {priority} ", stream.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_line_and_back() {
        let times = Times {
            boot_us: 12_345_678,
            wall_ms: 1_795_623_305_123,
        };
        let line = prefix(times, Stream::Out, false, 6) + "listening on port 80";
        assert_eq!(
            line,
            "12.345678 2026-11-25T16:15:05.123Z out 6 listening on port 80"
        );
        let record = Record::parse(line.as_bytes()).unwrap();
        assert_eq!(
            (record.stream, record.priority, record.continues),
            (Stream::Out, 6, false)
        );
        assert_eq!(record.text, b"listening on port 80");
        let part = prefix(times, Stream::Err, true, 3) + " \u{0}x";
        let record = Record::parse(part.as_bytes()).unwrap();
        assert_eq!((record.continues, record.text), (true, &b" \0x"[..]));
    }

    #[test]
    fn the_calendar_holds() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(ms).to_string(), want);
        }
    }

    #[test]
    fn rubbish_is_no_record() {
        for line in [
            &b""[..],
            b"a b c d e",
            b"1 2 out 9 x",
            b"1 2 out 6",
            b"\xff 2 out 6 x",
        ] {
            assert_eq!(Record::parse(line), None, "{line:?}");
        }
    }
}
