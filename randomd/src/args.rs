//! The command line, and the settings that come of it; pure.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use gokrazy_core::paths;

/// Shortest interval: each save writes to a card that wears.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Carries the kernel's entropy over a restart: loads a seed once, saves a new one at start, on a timer and at stop.
///
/// Seeds are `seed.credit` and `seed.no-credit` in the seed folder. Both are mixed into the kernel's random pool;
/// the first is also credited, if this machine made it and the pool still needs it.
/// SIGHUP saves at once, SIGTERM saves and ends.
#[derive(Debug, Clone, Parser)]
#[command(name = "randomd", version, about, max_term_width = 100)]
pub struct Args {
    /// Folder of the seeds; made if it is not there
    #[arg(long, value_name = "DIR", default_value = paths::PERM_RANDOM)]
    pub seed_dir: PathBuf,

    /// Mix seeds without crediting any
    #[arg(long)]
    pub no_credit: bool,

    /// Load or save once, and end
    #[arg(long, value_name = "WHAT")]
    pub once: Option<Once>,

    /// Time between two saves of the daemon, give or take an eighth: a number with ms, s, m, h or d; 100ms to 365d
    #[arg(long, value_name = "D", default_value = "1h", value_parser = interval)]
    pub interval: Duration,

    /// File with this machine's id, to which seeds are bound; repeatable, the first that holds an id counts
    #[arg(long, value_name = "FILE", default_values = [paths::PERM_MACHINE_ID, paths::ETC_MACHINE_ID])]
    pub machine_id: Vec<PathBuf>,

    /// File with the board's serial number, to which seeds are bound beside it; repeatable, the first that holds one counts
    #[arg(long, value_name = "FILE", default_values = [paths::DEVICE_TREE_SERIAL, paths::DMI_UUID])]
    pub board_id: Vec<PathBuf>,
}

/// What to do once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Once {
    /// Use the seeds on the disk.
    Load,
    /// Leave a new seed on the disk.
    Save,
}

/// A number with a unit, as init's tables write durations; without a unit, seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(number.len()..) {
        Some("ms") => 0.001,
        Some("" | "s") => 1.0,
        Some("m") => 60.0,
        Some("h") => 3600.0,
        Some("d") => 24.0 * 3600.0,
        Some(_) | None => return Err("the unit is ms, s, m, h or d".to_owned()),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let parsed = number.parse::<f64>().ok().filter(|_| plain);
    let number = parsed.ok_or("not a number with a unit, such as 30m or 1h")?;
    Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval))
        .ok_or_else(|| "the interval is 100ms to 365d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("randomd").chain(line.split_whitespace()))
    }

    #[test]
    fn defaults() {
        let args = parse("").unwrap();
        assert_eq!(args.seed_dir, PathBuf::from(paths::PERM_RANDOM));
        assert_eq!(args.interval, Duration::from_secs(3600));
        assert!(!args.no_credit && args.once.is_none());
        assert_eq!((args.machine_id.len(), args.board_id.len()), (2, 2));
    }

    #[test]
    fn intervals() {
        for (text, milliseconds) in [
            ("1", 1_000),
            ("100ms", 100),
            ("1s", 1_000),
            ("1.5s", 1_500),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("365d", 31_536_000_000),
        ] {
            let args = parse(&format!("--interval {text}")).unwrap();
            let want = Duration::from_millis(milliseconds);
            assert_eq!(args.interval, want, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_exit_code_2() {
        for line in [
            "--interval 0",
            "--interval 0s",
            "--interval 366d",
            "--interval 99999999999999999999",
            "--interval 18446744073709551615d",
            "--interval 99ms",
            "--interval 1..5h",
            "--interval 1e3s",
            "--interval inf",
            "--interval nan",
            "--interval .",
            "--interval h",
            "--interval=",
            "--interval=-1s",
            "--interval 1w",
            "--interval 1é",
            "--once",
            "--once both",
            "--seed-dir",
            "--no-credit=yes",
            "--unknown",
            "folder",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn an_interval_means_nothing_beside_once_and_does_no_harm() {
        let args = parse("--once load --interval 30m --no-credit").unwrap();
        assert_eq!(args.once, Some(Once::Load));
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
