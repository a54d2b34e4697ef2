//! `[[service]]` tables of TOML to services, with errors that tell where; pure.
//!
//! Each table is read by itself, so that a broken one costs nothing but itself: the text is cut at the lines that
//! start with `[[`, hence no value may hold such a line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::condition::Condition;
use super::{Isolation, Limits, LogLimits, Restart, Role, Service, Start, User};
use super::{capabilities, is_name, signals, values};

/// What is wrong in a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong; names the key.
    pub message: String,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

/// A service and the line where its table starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Line, from 1.
    pub line: usize,
    /// The service.
    pub service: Service,
}

/// Checks a text of `[[service]]` tables as the image builder must: every table whole, every name once, every
/// service that is waited for among them or in `known`, and no two services waiting for each other.
///
/// # Errors
/// All that is wrong, in the order of the lines.
pub fn check_services(text: &str, known: &[&str]) -> Result<Vec<Service>, Vec<Located>> {
    let (placed, mut errors) = parse(text);
    errors.extend(relations(&placed, known));
    if errors.is_empty() {
        Ok(placed.into_iter().map(|placed| placed.service).collect())
    } else {
        errors.sort_by_key(|error| error.line);
        Err(errors)
    }
}

/// Reads what can be read: the services of the whole tables, and what is wrong with the others.
pub fn parse(text: &str) -> (Vec<Placed>, Vec<Located>) {
    let mut placed: Vec<Placed> = Vec::new();
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for chunk in chunks(text) {
        match chunk.services() {
            Err(error) => errors.push(error),
            Ok(services) => {
                for service in services {
                    let line = chunk.line;
                    if names.insert(service.name.clone()) {
                        placed.push(Placed { line, service });
                    } else {
                        let message =
                            format!("name `{}` is taken by an earlier service", service.name);
                        errors.push(Located { line, message });
                    }
                }
            }
        }
    }
    (placed, errors)
}

/// What is wrong between services: unknown names in `wait-for`, and circles.
pub fn relations(placed: &[Placed], known: &[&str]) -> Vec<Located> {
    let mut errors = Vec::new();
    let by_name: HashMap<&str, &Placed> = placed
        .iter()
        .map(|placed| (placed.service.name.as_str(), placed))
        .collect();
    for one in placed {
        for name in needs(&one.service) {
            if !by_name.contains_key(name) && !known.contains(&name) {
                let message = format!("key `wait-for`: there is no service `{name}`");
                errors.push(Located {
                    line: one.line,
                    message,
                });
            }
        }
        if waits_for_itself(one, &by_name) {
            let message = format!(
                "key `wait-for`: `{}` waits for itself in a circle",
                one.service.name
            );
            errors.push(Located {
                line: one.line,
                message,
            });
        }
    }
    errors
}

fn needs(service: &Service) -> impl Iterator<Item = &str> {
    service
        .wait_for
        .iter()
        .filter_map(|condition| match condition {
            Condition::Service(name) => Some(name.as_str()),
            Condition::Clock | Condition::NetRoute | Condition::NetOnline | Condition::Mount(_) => {
                None
            }
        })
}

fn waits_for_itself(start: &Placed, by_name: &HashMap<&str, &Placed>) -> bool {
    let mut seen = HashSet::new();
    let mut open: Vec<&str> = needs(&start.service).collect();
    while let Some(name) = open.pop() {
        if name == start.service.name {
            return true;
        }
        if seen.insert(name)
            && let Some(placed) = by_name.get(name)
        {
            open.extend(needs(&placed.service));
        }
    }
    false
}

/// One `[[…]]` table with what belongs to it, or what stands before the first.
struct Chunk<'a> {
    line: usize,
    text: &'a str,
}

fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut starts = vec![(1, 0)];
    let mut offset: usize = 0;
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        if offset > 0 && content.trim_start().starts_with("[[") {
            starts.push((line, offset));
        }
        offset = offset.saturating_add(content.len());
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|(_, offset)| *offset)
        .chain([text.len()]);
    let pairs = starts.iter().zip(ends);
    pairs
        .filter_map(|((line, start), end)| {
            Some(Chunk {
                line: *line,
                text: text.get(*start..end)?,
            })
        })
        .collect()
}

impl Chunk<'_> {
    fn services(&self) -> Result<Vec<Service>, Located> {
        let file: File = toml::from_str(self.text).map_err(|error| self.located(&error))?;
        file.service
            .into_iter()
            .map(|raw| {
                raw.checked().map_err(|message| Located {
                    line: self.line,
                    message,
                })
            })
            .collect()
    }

    fn located(&self, error: &toml::de::Error) -> Located {
        let offset = error
            .span()
            .map_or(0, |span| span.start)
            .min(self.text.len());
        let before = self.text.get(..offset).unwrap_or_default();
        let line = self.line.saturating_add(before.matches('\n').count());
        let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let content = self
            .text
            .get(start..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        let message = error.message();
        let key = content.split_once('=').map(|(key, _)| key.trim());
        let message = match key.filter(|key| !message.contains(&format!("`{key}`"))) {
            Some(key) => format!("key `{key}`: {message}"),
            None => message.to_owned(),
        };
        Located {
            line,
            message: message.replace('\n', " "),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    service: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: Name,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    start: Option<RawStart>,
    #[serde(default)]
    wait_for: Vec<Wait>,
    restart: Option<RawRestart>,
    restart_delay: Option<Pause>,
    restart_delay_max: Option<Pause>,
    start_timeout: Option<Pause>,
    stop_signal: Option<SignalName>,
    stop_timeout: Option<Pause>,
    #[serde(default)]
    notify: bool,
    watchdog: Option<Pause>,
    #[serde(default)]
    critical: bool,
    user: Option<RawUser>,
    #[serde(default)]
    groups: Vec<u32>,
    #[serde(default)]
    capabilities: Vec<CapabilityName>,
    #[serde(default)]
    writable: Vec<AbsolutePath>,
    working_directory: Option<AbsolutePath>,
    memory_max: Option<Size>,
    cpu_max: Option<Share>,
    tasks_max: Option<std::num::NonZeroU32>,
    log_max: Option<Size>,
    log_persist: Option<Size>,
    no_new_privileges: Option<bool>,
    private_tmp: Option<bool>,
    read_only: Option<bool>,
    seccomp: Option<bool>,
    landlock: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawStart {
    Boot,
    Manual,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawRestart {
    OnFailure,
    Always,
    Never,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "\"auto\", \"root\", a user's name or a number is expected"
)]
enum RawUser {
    Id(u32),
    Name(String),
}

/// Defines a type that serde reads from a string by a function, so that its error has the string's place.
macro_rules! from_string {
    ($name:ident, $inner:ty, $parse:expr) => {
        #[derive(Deserialize)]
        #[serde(try_from = "String")]
        struct $name($inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map($name)
            }
        }
    };
}

from_string!(Pause, Duration, values::duration);
from_string!(Size, u64, values::size);
from_string!(Share, u32, values::permille);
from_string!(Wait, Condition, |text| text.parse());
from_string!(SignalName, i32, |text| signals::parse(text)
    .ok_or_else(|| format!("unknown signal `{text}`")));
from_string!(CapabilityName, u32, |text| capabilities::parse(text)
    .ok_or_else(|| format!("unknown capability `{text}`")));
from_string!(AbsolutePath, PathBuf, |text| if text.starts_with('/') {
    Ok(PathBuf::from(text))
} else {
    Err(format!("`{text}` is no absolute path"))
});
from_string!(Name, String, |text| if is_name(text) {
    Ok(text.to_owned())
} else {
    Err(format!(
        "`{text}` is no name: letters, digits, `.`, `_` and `-`, not first `.` or `-`, at most 64"
    ))
});

impl Raw {
    fn checked(self) -> Result<Service, String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("key `command`: name a program".to_owned());
        }
        let words = self
            .command
            .iter()
            .chain(self.env.values())
            .chain(self.env.keys());
        if words.into_iter().any(|word| word.contains('\0')) {
            return Err("keys `command` and `env`: no text may hold a NUL".to_owned());
        }
        if let Some(key) = self
            .env
            .keys()
            .find(|key| key.is_empty() || key.contains('='))
        {
            return Err(format!("key `env`: `{key}` is no variable's name"));
        }
        if self
            .watchdog
            .as_ref()
            .is_some_and(|pause| pause.0.is_zero())
        {
            return Err("key `watchdog`: must be longer than \"0s\"".to_owned());
        }
        Ok(self.service())
    }

    fn service(self) -> Service {
        let mut service = Service::new(self.name.0, &[]);
        service.command = self.command;
        service.env = self.env.into_iter().collect();
        service.wait_for = self.wait_for.into_iter().map(|wait| wait.0).collect();
        service.start = match self.start {
            Some(RawStart::Manual) => Start::Manual,
            Some(RawStart::Boot) | None => Start::Boot,
        };
        service.restart = match self.restart {
            Some(RawRestart::Always) => Restart::Always,
            Some(RawRestart::Never) => Restart::Never,
            Some(RawRestart::OnFailure) | None => Restart::OnFailure,
        };
        service.user = match self.user {
            None => User::Auto,
            Some(RawUser::Id(id)) => User::Id(id),
            Some(RawUser::Name(name)) => named_user(name),
        };
        let pause = |given: Option<Pause>, default| given.map_or(default, |pause| pause.0);
        service.restart_delay = pause(self.restart_delay, service.restart_delay);
        service.restart_delay_max =
            pause(self.restart_delay_max, service.restart_delay_max).max(service.restart_delay);
        service.start_timeout = pause(self.start_timeout, service.start_timeout);
        service.stop_timeout = pause(self.stop_timeout, service.stop_timeout);
        service.stop_signal = self
            .stop_signal
            .map_or(service.stop_signal, |signal| signal.0);
        service.notify = self.notify;
        service.watchdog = self.watchdog.map(|pause| pause.0);
        service.critical = self.critical;
        service.groups = self.groups;
        service.capabilities = self
            .capabilities
            .iter()
            .fold(0, |set, one| set | 1 << one.0);
        service.writable = self.writable.into_iter().map(|path| path.0).collect();
        service.working_directory = self.working_directory.map(|path| path.0);
        service.limits = Limits {
            memory: self.memory_max.map(|size| size.0),
            cpu_permille: self.cpu_max.map(|share| share.0),
            tasks: self.tasks_max.map(std::num::NonZeroU32::get),
        };
        service.log = LogLimits {
            volatile: self.log_max.map_or(service.log.volatile, |size| size.0),
            persistent: self.log_persist.map_or(0, |size| size.0),
        };
        service.isolation = Isolation {
            no_new_privileges: self.no_new_privileges,
            private_tmp: self.private_tmp,
            read_only: self.read_only,
            seccomp: self.seccomp,
            landlock: self.landlock,
        };
        service.role = Role::Application;
        service
    }
}

/// `"auto"`, a number in quotes, `"root"` (which needs no `/etc/passwd`), or a name to look up.
fn named_user(name: String) -> User {
    match (name.as_str(), name.parse()) {
        ("auto", _) => User::Auto,
        ("root", _) => User::Id(0),
        (_, Ok(id)) => User::Id(id),
        (_, Err(_)) => User::Name(name),
    }
}

#[cfg(test)]
mod tests;
