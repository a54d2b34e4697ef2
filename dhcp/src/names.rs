//! Domain names and URIs from the network, checked before they reach a file or a hook (RFC 1123 §2.1); pure.
//!
//! What passes consists of letters, digits, hyphens, underscores and dots, so it can neither start a line of its own
//! in resolv.conf nor run anything in a shell.

/// Longest name in characters (RFC 1035 §2.3.4, without the root's dot).
const LONGEST_NAME: usize = 253;
/// Longest label.
const LONGEST_LABEL: usize = 63;
/// Longest URI that we carry on.
const LONGEST_URI: usize = 512;

/// The name without trailing NULs and root dot, if it is a host or domain name.
///
/// Underscores are taken too: they are not legal in host names, but common in the names of internal domains.
pub fn domain(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?;
    let name = name.trim_end_matches('\0');
    let name = name.strip_suffix('.').unwrap_or(name);
    let sound = name.len() <= LONGEST_NAME && !name.is_empty() && name.split('.').all(is_label);
    sound.then(|| name.to_owned())
}

/// The names in option 15, which many servers fill with a search list separated by blanks; none if any is unsound.
pub fn domains(bytes: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let names: Option<Vec<String>> = text
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| domain(word.as_bytes()))
        .collect();
    names.filter(|names| !names.is_empty())
}

/// The URI, if it consists of what RFC 3986 allows in one and starts with `http:` or `https:`.
pub fn uri(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&()*+,;=%".contains(c);
    let sound = text.len() <= LONGEST_URI
        && (text.starts_with("https://") || text.starts_with("http://"))
        && text.chars().all(legal);
    sound.then(|| text.to_owned())
}

fn is_label(label: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    label.len() <= LONGEST_LABEL
        && edge(label.chars().next())
        && edge(label.chars().next_back())
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], want: Option<&str>) {
        assert_eq!(domain(input).as_deref(), want);
    }

    #[test]
    fn names_are_taken_and_trimmed() {
        check(b"example.org", Some("example.org"));
        check(b"example.org.\0", Some("example.org"));
        check(b"_dmz.a-b.lan", Some("_dmz.a-b.lan"));
        check(&[b'a'; 63], Some(&"a".repeat(63)));
    }

    #[test]
    fn injections_and_malformed_names_are_refused() {
        for bad in [
            &b""[..],
            b".",
            b"a..b",
            b"-a.org",
            b"a-.org",
            b"a.org\nnameserver 198.51.100.66",
            b"a.org\0nameserver",
            b"$(reboot)",
            b"a;b",
            b"a'b",
            b"a b",
            b"\xff\xfe",
            "ex\u{e4}mple.org".as_bytes(),
            &[b'a'; 64],
        ] {
            check(bad, None);
        }
        check(&b"a.".repeat(128), None);
    }

    #[test]
    fn a_list_in_option_15_is_taken_whole_or_not_at_all() {
        assert_eq!(
            domains(b"a.org b.org"),
            Some(vec!["a.org".into(), "b.org".into()])
        );
        assert_eq!(domains(b"a.org $(reboot)"), None);
        assert_eq!(domains(b" "), None);
    }

    #[test]
    fn only_web_uris_pass() {
        let good = b"https://portal.example.org/api?x=1&y=%20";
        assert_eq!(uri(good).unwrap().as_bytes(), good);
        for bad in [
            &b"javascript:alert(1)"[..],
            b"https://a b",
            b"https://a'b",
            b"https://a\nb",
            b"",
        ] {
            assert_eq!(uri(bad), None);
        }
    }
}
