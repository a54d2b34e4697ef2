//! The state of a service, as init publishes it under `<run-dir>/service/<name>`; pure.

use std::fmt;
use std::str::FromStr;

use crate::keyvalue::{Document, ParseError};

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not running, and not meant to.
    Stopped,
    /// Waits for a condition or another service before its start.
    Waiting,
    /// Started, and not yet ready.
    Starting,
    /// Running and ready.
    Running,
    /// Told to stop, and not yet gone.
    Stopping,
    /// Ended by itself with exit status 0.
    Finished,
    /// Ended, and will be started again after the restart delay.
    Restarting,
    /// Fails again and again; tried at the longest delay.
    CrashLoop,
}

const STATES: [(State, &str); 8] = [
    (State::Stopped, "stopped"),
    (State::Waiting, "waiting"),
    (State::Starting, "starting"),
    (State::Running, "running"),
    (State::Stopping, "stopping"),
    (State::Finished, "finished"),
    (State::Restarting, "restarting"),
    (State::CrashLoop, "crash-loop"),
];

impl State {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        STATES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, word)| word)
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
        STATES
            .iter()
            .find(|(_, name)| *name == word)
            .map(|(state, _)| *state)
            .ok_or(())
    }
}

/// What init says of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The service's name.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// The command line as one line for people; the program is the first word.
    pub command: String,
    /// Process id; absent while there is none.
    pub pid: Option<u32>,
    /// User id that it runs as.
    pub uid: Option<u32>,
    /// When the state was entered, in milliseconds on the boot clock.
    pub since_ms: u64,
    /// When it was last started, in Unix milliseconds; absent before the first start.
    pub started_at_ms: Option<i64>,
    /// How often it was started again.
    pub restarts: u32,
    /// How the last run ended, for people: `exit status 1`, `signal 9 (KILL)`, `out of memory` …
    pub last_exit: Option<String>,
    /// What it said of itself (`STATUS=` of sd_notify).
    pub status_text: Option<String>,
    /// The program that runs in its place until the next boot, if any.
    pub diverted: Option<String>,
}

impl ServiceStatus {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        Ok(Self {
            name: document.required("name")?.to_owned(),
            state: document.required_as("state")?,
            command: document.required("command")?.to_owned(),
            pid: document.optional_as("pid")?,
            uid: document.optional_as("uid")?,
            since_ms: document.required_as("since_ms")?,
            started_at_ms: document.optional_as("started_at_ms")?,
            restarts: document.required_as("restarts")?,
            last_exit: document.optional_as("last_exit")?,
            status_text: document.optional_as("status_text")?,
            diverted: document.optional_as("diverted")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        Document::new()
            .set("name", &self.name)
            .set("state", self.state)
            .set("command", &self.command)
            .set_some("pid", self.pid)
            .set_some("uid", self.uid)
            .set("since_ms", self.since_ms)
            .set_some("started_at_ms", self.started_at_ms)
            .set("restarts", self.restarts)
            .set_some("last_exit", self.last_exit.as_ref())
            .set_some("status_text", self.status_text.as_ref())
            .set_some("diverted", self.diverted.as_ref())
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        let text = "name=hello\nstate=running\ncommand='/user/hello --port 80'\npid=87\nuid=10017\n\
                    since_ms=2410\nstarted_at_ms=1790000000123\nrestarts=2\nlast_exit='exit status 1'\n";
        let status = ServiceStatus::parse(text).unwrap();
        assert_eq!((status.state, status.pid), (State::Running, Some(87)));
        assert_eq!(status.render(), text);
    }

    #[test]
    fn each_state_has_its_own_word() {
        for (state, word) in STATES {
            assert_eq!((state.as_str(), word.parse()), (word, Ok(state)));
        }
    }
}
