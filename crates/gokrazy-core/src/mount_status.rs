//! The state of a `[[mount]]` table, as init publishes it under `<run-dir>/mount/<number>`; pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::keyvalue::{Document, ParseError};

/// How a disk that a table names is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its disk is not there; nothing can be written to the mount point.
    Waiting,
    /// Mounted.
    Mounted,
    /// Its disk is there and was refused; tried again.
    Refused,
}

const STATES: [(State, &str); 3] = [
    (State::Waiting, "waiting"),
    (State::Mounted, "mounted"),
    (State::Refused, "refused"),
];

impl State {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        let found = STATES.iter().find(|(state, _)| *state == self);
        found.map_or("", |(_, word)| word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let found = STATES.iter().find(|(_, name)| *name == word);
        found.map(|(state, _)| *state).ok_or(())
    }
}

/// What init says of a `[[mount]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStatus {
    /// Where it is mounted.
    pub target: PathBuf,
    /// How its disk is named: `LABEL=data` …
    pub source: String,
    /// How it is.
    pub state: State,
    /// Its device, while it is mounted.
    pub device: Option<PathBuf>,
    /// Why it was refused, for people.
    pub why: Option<String>,
}

impl MountStatus {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        Ok(Self {
            target: document.required("target")?.into(),
            source: document.required("source")?.to_owned(),
            state: document.required_as("state")?,
            device: document.get("device").map(PathBuf::from),
            why: document.optional_as("why")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut document = Document::new();
        document
            .set("target", self.target.display())
            .set("source", &self.source)
            .set("state", self.state)
            .set_some("device", self.device.as_ref().map(|path| path.display()))
            .set_some("why", self.why.as_ref());
        document.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        for text in [
            "target=/mnt/data\nsource='LABEL=data'\nstate=mounted\ndevice=/dev/sda1\n",
            "target=/mnt/data\nsource='UUID=1'\nstate=refused\nwhy='sda1: bad superblock'\n",
            "target=/mnt/data\nsource=/dev/sdb\nstate=waiting\n",
        ] {
            assert_eq!(MountStatus::parse(text).unwrap().render(), text);
        }
        assert!(MountStatus::parse("target=/a\nsource=b\nstate=lost\n").is_err());
    }
}
