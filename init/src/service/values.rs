//! Durations, sizes and shares as people write them in a table; pure.

use std::time::Duration;

/// Longest duration that a table may ask for: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration: `"500ms"`, `"1.5s"`, `"2m"`, `"1h"`, `"1d"`.
///
/// # Errors
/// What is expected, for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit_ms: f64 = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3600e3,
        "d" => 86400e3,
        _ => {
            return Err(format!(
                "`{text}` is no duration: write \"500ms\", \"1s\", \"2m\" or \"1h\""
            ));
        }
    };
    let seconds = number
        .parse::<f64>()
        .ok()
        .map(|value| value * unit_ms / 1e3);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| format!("`{text}` is no duration between \"0s\" and \"366d\""))
}

/// A size in bytes: `"512"`, `"64K"`, `"64M"`, `"1G"`, in powers of 1,024.
///
/// # Errors
/// What is expected, for people.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is no size: write \"64K\", \"64M\" or \"1G\""
            ));
        }
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(factor));
    bytes.ok_or_else(|| format!("`{text}` is no size: write \"64K\", \"64M\" or \"1G\""))
}

/// A share of one processor in thousandths: `"50%"`, `"150%"`.
///
/// # Errors
/// What is expected, for people.
pub fn permille(text: &str) -> Result<u32, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.1..=100_000.0).contains(&percent) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range stands in the arm"
            )]
            Ok((percent * 10.0) as u32)
        }
        Some(_) | None => Err(format!(
            "`{text}` is no share of a processor: write \"50%\" or \"150%\""
        )),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "1",
            "s",
            "-1s",
            "1 s",
            "1y",
            "1e9s",
            "99999999h",
            "1..5s",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("64K", 65_536),
            ("64KiB", 65_536),
            ("64M", 67_108_864),
            ("1G", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "1T", "99999999999999G"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(permille("50%"), Ok(500));
        assert_eq!(permille("150%"), Ok(1500));
        assert_eq!(permille("0.5%"), Ok(5));
        for text in ["50", "0%", "-1%", "nan%", "%"] {
            assert!(permille(text).is_err(), "{text:?}");
        }
    }
}
