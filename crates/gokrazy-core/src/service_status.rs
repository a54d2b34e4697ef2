//! The state of a service, as init publishes it under `<run-dir>/service/<name>`; pure.

use std::borrow::Cow;
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
    /// Running and ready, and reading its configuration anew.
    Reloading,
    /// Told to stop, and not yet gone.
    Stopping,
    /// Ended by itself with exit status 0.
    Finished,
    /// Ended, and will be started again after the restart delay.
    Restarting,
    /// Fails again and again; tried at the longest delay.
    CrashLoop,
}

const STATES: [(State, &str); 9] = [
    (State::Stopped, "stopped"),
    (State::Waiting, "waiting"),
    (State::Starting, "starting"),
    (State::Running, "running"),
    (State::Reloading, "reloading"),
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
    /// Failures in a row; 0 once it has run for a minute.
    pub failures: u32,
    /// What it still waits for, separated by blanks: `clock`, `service:db` …
    pub waiting_for: Option<String>,
    /// Whether an update is confirmed only while it is well.
    pub critical: bool,
    /// Fences that its table asks for and this machine cannot give, for people.
    pub unfenced: Option<String>,
    /// Its last changes of state, oldest first.
    pub history: Vec<Change>,
}

/// A change of a service's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, in milliseconds on the boot clock.
    pub at_ms: u64,
    /// The state that was entered.
    pub state: State,
    /// Why, for people: `ready`, `asked to stop`, `exit status 1` …
    pub why: Cow<'static, str>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at_ms, self.state, self.why)
    }
}

impl FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().ok_or(());
        Ok(Self {
            at_ms: word()?.parse().map_err(|_| ())?,
            state: word()?.parse()?,
            why: word()?.to_owned().into(),
        })
    }
}

/// Most changes that a reader takes from a file.
const MAX_HISTORY: usize = 64;

fn history(document: &Document) -> Result<Vec<Change>, ParseError> {
    (0..MAX_HISTORY)
        .map_while(|index| document.get(&format!("history_{index}")))
        .map(|text| {
            text.parse().map_err(|()| ParseError::Invalid {
                key: "history_<n>",
                value: text.to_owned(),
            })
        })
        .collect()
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
            failures: document.optional_as("failures")?.unwrap_or(0),
            waiting_for: document.optional_as("waiting_for")?,
            critical: document.get("critical") == Some("yes"),
            unfenced: document.optional_as("unfenced")?,
            history: history(&document)?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut document = Document::new();
        document
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
            .set("failures", self.failures)
            .set_some("waiting_for", self.waiting_for.as_ref())
            .set("critical", if self.critical { "yes" } else { "no" })
            .set_some("unfenced", self.unfenced.as_ref());
        for (index, change) in self.history.iter().enumerate() {
            document.set(&format!("history_{index}"), change);
        }
        document.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        let text = "name=hello\nstate=running\ncommand='/user/hello --port 80'\npid=87\nuid=10017\n\
                    since_ms=2410\nstarted_at_ms=1790000000123\nrestarts=2\nlast_exit='exit status 1'\n\
                    failures=0\ncritical=yes\nhistory_0='1400 restarting exit status 1'\n\
                    history_1='2410 running ready'\n";
        let status = ServiceStatus::parse(text).unwrap();
        assert_eq!((status.state, status.pid), (State::Running, Some(87)));
        assert_eq!(status.history.len(), 2);
        assert_eq!(status.render(), text);
    }

    #[test]
    fn what_an_older_writer_left_out_has_a_default() {
        let text = "name=a\nstate=stopped\ncommand=/a\nsince_ms=1\nrestarts=0\n";
        let status = ServiceStatus::parse(text).unwrap();
        assert_eq!((status.failures, status.critical), (0, false));
        assert_eq!(status.history, []);
    }

    #[test]
    fn each_state_has_its_own_word() {
        for (state, word) in STATES {
            assert_eq!((state.as_str(), word.parse()), (word, Ok(state)));
        }
    }
}
