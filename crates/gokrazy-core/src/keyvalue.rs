//! The `key=value` line format of our state files; pure.
//!
//! A shell can source such a file (`. /run/gokrazy/net/eth0`) and nothing in it can run: a key is a lower-case
//! shell identifier, and a value that holds anything but plain characters stands in single quotes.
//! Blank lines and lines that start with `#` are passed over.
//! Unknown keys are kept and ignored by readers; a malformed line is an error with its number.

use std::fmt;

/// Most keys of a document, several times what any of ours has: each new one is held against those before it.
const MAX_KEYS: usize = 1024;

/// A document of keys and values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    entries: Vec<(String, String)>,
}

/// Why a text is not a document, or a field not what its reader needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Line `line` (from 1) is not `key=value`, or one of too many.
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// Line `line` sets a key that an earlier line has set.
    Duplicate {
        /// Line number, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A key that the reader needs is absent.
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The value of a key is not what the reader expects.
    Invalid {
        /// The key.
        key: &'static str,
        /// The value as it stands in the document.
        value: String,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { line } => write!(f, "line {line}: not a `key=value` line"),
            Self::Duplicate { line, key } => write!(f, "line {line}: key `{key}` given twice"),
            Self::Missing { key } => write!(f, "key `{key}` is missing"),
            Self::Invalid { key, value } => {
                write!(f, "key `{key}` has the invalid value {value:?}")
            }
        }
    }
}

impl std::error::Error for ParseError {}

impl Document {
    /// An empty document.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] or [`ParseError::Duplicate`] with the line's number.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut document = Self::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index.saturating_add(1);
            let content = raw.trim_end_matches('\r');
            if content.trim().is_empty() || content.starts_with('#') {
                continue;
            }
            let (key, value) = parse_line(content)
                .filter(|_| document.entries.len() < MAX_KEYS)
                .ok_or(ParseError::Malformed { line })?;
            if document.get(key).is_some() {
                return Err(ParseError::Duplicate {
                    line,
                    key: key.to_owned(),
                });
            }
            document.entries.push((key.to_owned(), value));
        }
        Ok(document)
    }

    /// The value of `key`, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`ParseError::Missing`] if it is not set.
    pub fn required(&self, key: &'static str) -> Result<&str, ParseError> {
        self.get(key).ok_or(ParseError::Missing { key })
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`ParseError::Missing`] if it is not set, [`ParseError::Invalid`] if it is no `T`.
    pub fn required_as<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, ParseError> {
        let value = self.required(key)?;
        value.parse().map_err(|_| ParseError::Invalid {
            key,
            value: value.to_owned(),
        })
    }

    /// The value of `key` as a `T`, or nothing if it is not set or empty.
    ///
    /// # Errors
    /// [`ParseError::Invalid`] if it is set and no `T`.
    pub fn optional_as<T: std::str::FromStr>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ParseError> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| ParseError::Invalid {
                key,
                value: value.to_owned(),
            }),
        }
    }

    /// The value of `key` as a list of `T` separated by blanks; empty if it is not set.
    ///
    /// # Errors
    /// [`ParseError::Invalid`] if an element is no `T`.
    pub fn list_as<T: std::str::FromStr>(&self, key: &'static str) -> Result<Vec<T>, ParseError> {
        let value = self.get(key).unwrap_or_default();
        value
            .split_ascii_whitespace()
            .map(|item| {
                item.parse().map_err(|_| ParseError::Invalid {
                    key,
                    value: value.to_owned(),
                })
            })
            .collect()
    }

    /// Sets `key` to `value`, replacing an earlier value.
    ///
    /// A key that is no lower-case shell identifier is passed over, and control characters in the value become
    /// blanks, so that what is rendered can always be read back and sourced.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        if !is_key(key) {
            return self;
        }
        let value: String = value
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        self
    }

    /// Sets `key` if there is a value; leaves it out otherwise.
    pub fn set_some(&mut self, key: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Sets `key` to the items, separated by blanks; leaves it out if there are none.
    pub fn set_list<T: fmt::Display>(&mut self, key: &str, items: &[T]) -> &mut Self {
        if items.is_empty() {
            return self;
        }
        let joined: Vec<String> = items.iter().map(ToString::to_string).collect();
        self.set(key, joined.join(" "))
    }

    /// The keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The text of the document; [`Document::parse`] gives the same document back.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.entries {
            text.push_str(key);
            text.push('=');
            push_quoted(&mut text, value);
            text.push('\n');
        }
        text
    }
}

fn parse_line(line: &str) -> Option<(&str, String)> {
    let (key, raw) = line.split_once('=')?;
    if !is_key(key) {
        return None;
    }
    Some((key, unquote(raw)?))
}

fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:/,+@%-".contains(c)
}

fn push_quoted(text: &mut String, value: &str) {
    if value.chars().all(is_plain) {
        text.push_str(value);
    } else {
        text.push('\'');
        text.push_str(&value.replace('\'', r"'\''"));
        text.push('\'');
    }
}

/// Undoes [`push_quoted`]; `None` for what no renderer of ours and no careful human writes.
fn unquote(raw: &str) -> Option<String> {
    if !raw.starts_with('\'') {
        return raw.chars().all(is_plain).then(|| raw.to_owned());
    }
    let inner = raw.strip_prefix('\'')?.strip_suffix('\'')?;
    let value = inner.replace(r"'\''", "\u{0}");
    if value.contains('\'') {
        None
    } else {
        Some(value.replace('\u{0}', "'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, rendered: &str) {
        let mut document = Document::new();
        document.set("key", value);
        assert_eq!(document.render(), format!("key={rendered}\n"));
        assert_eq!(
            Document::parse(&document.render()).unwrap().get("key"),
            Some(value)
        );
    }

    #[test]
    fn plain_values_stand_bare() {
        check("", "");
        check("10.0.0.1", "10.0.0.1");
        check("fe80::1%eth0", "fe80::1%eth0");
    }

    #[test]
    fn anything_else_is_quoted_for_the_shell() {
        check("a b", "'a b'");
        check("$(reboot)", "'$(reboot)'");
        check("it's", r"'it'\''s'");
        check("''", r"''\'''\'''");
    }

    #[test]
    fn a_line_break_cannot_start_a_line_of_its_own() {
        let mut document = Document::new();
        document.set("domain", "x\nnameserver=evil");
        assert_eq!(document.render(), "domain='x nameserver=evil'\n");
    }

    #[test]
    fn malformed_and_duplicate_lines_are_named() {
        assert_eq!(
            Document::parse("a=1\nb\n"),
            Err(ParseError::Malformed { line: 2 })
        );
        assert_eq!(
            Document::parse("a=1;reboot\n"),
            Err(ParseError::Malformed { line: 1 })
        );
        assert_eq!(
            Document::parse("PATH=/tmp\n"),
            Err(ParseError::Malformed { line: 1 })
        );
        let twice = ParseError::Duplicate {
            line: 3,
            key: "a".to_owned(),
        };
        assert_eq!(Document::parse("a=1\n# note\na=2\n"), Err(twice));
        let many: String = (0..=MAX_KEYS).map(|n| format!("a{n}=\n")).collect();
        let line = MAX_KEYS + 1;
        assert_eq!(Document::parse(&many), Err(ParseError::Malformed { line }));
    }

    #[test]
    fn missing_and_invalid_fields_are_named() {
        let document = Document::parse("n=x\nlist='1 2 3'\n").unwrap();
        assert_eq!(
            document.required("m"),
            Err(ParseError::Missing { key: "m" })
        );
        assert_eq!(
            document.required_as::<u32>("n"),
            Err(ParseError::Invalid {
                key: "n",
                value: "x".to_owned()
            })
        );
        assert_eq!(document.list_as::<u8>("list"), Ok(vec![1, 2, 3]));
        assert_eq!(document.optional_as::<u8>("m"), Ok(None));
    }
}
