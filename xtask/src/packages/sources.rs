//! From the host's own package sources to those of the private apt root; pure.
//!
//! Both of apt's formats are read (sources.list(5)): one line a source, and deb822 paragraphs.
//! Kept are Debian's archives of the host's own release; what the images need beyond them (backports, and the firmware
//! that is not free) is asked of the same servers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    /// Value of `Signed-By` as it stands, a key of several lines included.
    signed_by: Option<String>,
}

/// Reads a file of one-line sources.
pub(crate) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    rest = rest.trim_start();
    let mut signed_by = None;
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        signed_by,
    })
}

/// Reads a file of deb822 paragraphs.
pub(crate) fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(parse_paragraph)
        .collect()
}

fn parse_paragraph(lines: &[&str]) -> Option<Source> {
    let words = |name: &str| -> Vec<String> {
        let value = field(lines, name).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    let enabled = field(lines, "Enabled").is_none_or(|value| value.trim() != "no");
    let source = Source {
        uris: words("URIs"),
        suites: words("Suites"),
        signed_by: field(lines, "Signed-By").map(|value| value.trim_end().to_owned()),
    };
    (enabled && words("Types").iter().any(|kind| kind == "deb") && !source.uris.is_empty())
        .then_some(source)
}

/// A field's value with its continuation lines.
fn field(lines: &[&str], name: &str) -> Option<String> {
    let mut value: Option<String> = None;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = &mut value {
                value.push('\n');
                value.push_str(line);
            }
        } else if value.is_some() {
            break;
        } else if let Some((key, first)) = line.split_once(':')
            && key.trim().eq_ignore_ascii_case(name)
        {
            value = Some(first.trim().to_owned());
        }
    }
    value
}

/// The private root's sources in deb822, or `None` if `host` has no archive of Debian release `codename`.
pub(crate) fn derive(host: &[Source], codename: &str) -> Option<String> {
    let mut text = String::new();
    for source in host {
        let suites = wanted_suites(source, codename);
        if suites.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main non-free-firmware\n",
            source.uris.join(" "),
            suites.into_iter().collect::<Vec<_>>().join(" ")
        );
        if let Some(signed_by) = &source.signed_by {
            let _ = writeln!(text, "Signed-By: {signed_by}");
        }
        text.push('\n');
    }
    (!text.is_empty()).then_some(text)
}

fn wanted_suites(source: &Source, codename: &str) -> BTreeSet<String> {
    let of_release = |suite: &&String| {
        suite
            .strip_prefix(codename)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut suites: BTreeSet<String> = source.suites.iter().filter(of_release).cloned().collect();
    if suites.contains(codename) {
        suites.insert(format!("{codename}-backports"));
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_lead_to_the_same_sources() {
        let list = "# comment\ndeb [arch=amd64 signed-by=/keys/a.gpg] http://mirror/debian bookworm main\n\
                    deb-src http://mirror/debian bookworm main\ndeb http://other/x stable contrib # why\n";
        let deb822 = "# comment\nTypes: deb deb-src\nURIs: http://mirror/debian\nSuites: bookworm\n\
                      Components: main\nSigned-By: /keys/a.gpg\n\nEnabled: no\nTypes: deb\nURIs: http://off/\n\
                      Suites: bookworm\n\nTypes: deb-src\nURIs: http://src/\nSuites: bookworm\n";
        let want = Source {
            uris: vec!["http://mirror/debian".to_owned()],
            suites: vec!["bookworm".to_owned()],
            signed_by: Some("/keys/a.gpg".to_owned()),
        };
        assert_eq!(parse_list(list)[0], want);
        assert_eq!(parse_list(list).len(), 2);
        assert_eq!(parse_deb822(deb822), vec![want]);
    }

    #[test]
    fn a_key_of_several_lines_is_carried_over() {
        let text = "Types: deb\nURIs: http://m/\nSuites: trixie\nSigned-By:\n -----BEGIN\n .\n abc\nComponents: main\n";
        let derived = derive(&parse_deb822(text), "trixie").unwrap();
        assert!(
            derived.contains("Signed-By: \n -----BEGIN\n .\n abc\n"),
            "{derived}"
        );
    }

    #[test]
    fn only_archives_of_the_release_are_taken_and_backports_added_where_the_release_lies() {
        let text = "deb http://m/debian bookworm main\ndeb http://m/debian bookworm-updates main\n\
                    deb http://s/security bookworm-security main\ndeb http://vendor/ nodistro main\n\
                    deb http://vendor/ bookwormish main\n";
        let derived = derive(&parse_list(text), "bookworm").unwrap();
        assert!(derived.contains("Suites: bookworm bookworm-backports\n"));
        assert!(derived.contains("Suites: bookworm-security\n"));
        assert!(!derived.contains("vendor"));
        assert_eq!(derive(&parse_list(text), "noble"), None);
    }
}
