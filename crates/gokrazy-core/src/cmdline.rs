//! The kernel command line (`/proc/cmdline`) as options; pure.
//!
//! The kernel's own rules: words are separated by blanks, double quotes keep blanks together
//! (`Documentation/admin-guide/kernel-parameters`), and of a parameter given twice the last one counts.

use std::fmt;

/// The words of a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// Splits the line; any text is a command line.
    pub fn parse(line: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in line.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_ascii_whitespace() && !quoted => words.extend(take_word(&mut word)),
                c => word.push(c),
            }
        }
        words.extend(take_word(&mut word));
        Self { words }
    }

    /// The value of the last `key=value`, if there is one.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.words
            .iter()
            .rev()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the word stands there by itself, as `rootwait` does.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// Where the root file system is, as `root=` says it.
    pub fn root(&self) -> Option<RootSource> {
        self.value("root").and_then(RootSource::parse)
    }
}

fn take_word(word: &mut String) -> Option<String> {
    (!word.is_empty()).then(|| std::mem::take(word))
}

/// The forms of `root=` that we understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// `PARTUUID=<guid>[/PARTNROFF=<n>]`: the partition `n` places behind the one with that GUID.
    PartUuid {
        /// The GUID, in lower case.
        uuid: String,
        /// How many partitions further on the root lies.
        offset: u32,
    },
    /// A device node.
    Device(String),
}

impl RootSource {
    fn parse(text: &str) -> Option<Self> {
        let Some(rest) = text.strip_prefix("PARTUUID=") else {
            return text.starts_with('/').then(|| Self::Device(text.to_owned()));
        };
        let (uuid, offset) = match rest.split_once("/PARTNROFF=") {
            Some((uuid, offset)) => (uuid, offset.parse().ok()?),
            None => (rest, 0),
        };
        Some(Self::PartUuid {
            uuid: uuid.to_ascii_lowercase(),
            offset,
        })
    }
}

impl fmt::Display for RootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartUuid { uuid, .. } => write!(f, "the disk that holds partition {uuid}"),
            Self::Device(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_values_and_quotes() {
        let line =
            CommandLine::parse("console=tty1 rootwait gokrazy.slot=a x=\"1 2\" console=ttyAMA0\n");
        assert_eq!(line.value("console"), Some("ttyAMA0"));
        assert_eq!(line.value("x"), Some("1 2"));
        assert_eq!((line.has("rootwait"), line.has("root")), (true, false));
        assert_eq!(line.value("conso"), None);
    }

    #[track_caller]
    fn check(line: &str, want: Option<RootSource>) {
        assert_eq!(CommandLine::parse(line).root(), want);
    }

    #[test]
    fn forms_of_root() {
        let guid = |offset| RootSource::PartUuid {
            uuid: "60c24cc1-f3f9".to_owned(),
            offset,
        };
        check("root=PARTUUID=60C24CC1-F3F9", Some(guid(0)));
        check("root=PARTUUID=60c24cc1-f3f9/PARTNROFF=2", Some(guid(2)));
        check("root=PARTUUID=60c24cc1-f3f9/PARTNROFF=x", None);
        check(
            "root=/dev/sda2 ro",
            Some(RootSource::Device("/dev/sda2".to_owned())),
        );
        check("root=LABEL=x", None);
        check("quiet", None);
    }
}
