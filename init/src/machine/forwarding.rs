//! Whether logs are forwarded, and where to: what gokrazy's three places say.

use std::path::Path;

use gokrazy_core::cmdline::CommandLine;
use gokrazy_core::{paths, regular_file};

use crate::syslog::target::Target;

/// The word on the kernel command line.
const PARAMETER: &str = "gokrazy.remote_syslog.target";

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 4096;

/// The collector of this machine, if it has one: the first place that says something counts, and an empty text there
/// means none.
///
/// # Errors
/// What stands there names no collector, for people.
pub fn target(line: &CommandLine) -> Result<Option<Target>, String> {
    choose(line, |path| {
        regular_file::read(Path::new(path), FILE_MAX).ok()
    })
}

fn choose(
    line: &CommandLine,
    read: impl Fn(&str) -> Option<String>,
) -> Result<Option<Target>, String> {
    let of_file = |path: &str| Some((path.to_owned(), read(path)?));
    let said = line
        .value(PARAMETER)
        .map(|text| (PARAMETER.to_owned(), text.to_owned()))
        .or_else(|| of_file(paths::PERM_SYSLOG_TARGET))
        .or_else(|| of_file(paths::ETC_SYSLOG_TARGET));
    match said {
        Some((place, text)) if !text.trim().is_empty() => {
            let target = text.trim().parse();
            target
                .map(Some)
                .map_err(|error| format!("logs are not forwarded: {place}: {error}"))
        }
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_says_something_counts() {
        for (line, perm, etc, want) in [
            ("quiet", None, None, None),
            ("quiet", None, Some("logs\n"), Some("udp://logs:514")),
            ("quiet", Some("tcp://a:1 \n"), Some("b"), Some("tcp://a:1")),
            ("quiet", Some("\n"), Some("b"), None),
            (
                "gokrazy.remote_syslog.target=c:5",
                Some("a"),
                None,
                Some("udp://c:5"),
            ),
        ] {
            let line = CommandLine::parse(line);
            let read = |path: &str| {
                let text = if path == paths::PERM_SYSLOG_TARGET {
                    perm
                } else {
                    etc
                };
                text.map(str::to_owned)
            };
            let got = choose(&line, read).unwrap();
            assert_eq!(got.map(|target| target.to_string()).as_deref(), want);
        }
    }

    #[test]
    fn a_bad_target_is_told_with_its_place() {
        let line = CommandLine::parse("");
        let told = choose(&line, |_| Some("tls://logs".to_owned())).unwrap_err();
        assert!(
            told.contains(paths::PERM_SYSLOG_TARGET) && told.contains("tcp://HOST:PORT"),
            "{told}"
        );
    }
}
