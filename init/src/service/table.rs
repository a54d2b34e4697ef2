//! `[[service]]` tables of TOML to services, with errors that tell where; pure.
//!
//! Each table is read by itself, so that a broken one costs nothing but itself: the text is cut at the lines that
//! start with `[[`, hence no value may hold such a line.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::Service;
use super::condition::Condition;
use super::raw::File;

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

/// Reads what can be read: the services of the whole tables, without keys that nobody knows, and what is wrong.
pub fn parse(text: &str) -> (Vec<Placed>, Vec<Located>) {
    let mut placed: Vec<Placed> = Vec::new();
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for chunk in chunks(text) {
        match chunk.services(&mut errors) {
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
                let message = format!(
                    "service `{}`: key `wait-for`: there is no service `{name}`",
                    one.service.name
                );
                errors.push(Located {
                    line: one.line,
                    message,
                });
            }
        }
        if waits_for_itself(one, &by_name) {
            let message = format!(
                "service `{}`: key `wait-for`: waits for itself in a circle",
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
    fn services(&self, errors: &mut Vec<Located>) -> Result<Vec<Service>, Located> {
        if self.text.contains(char::REPLACEMENT_CHARACTER) {
            let message = "the table is not UTF-8".to_owned();
            return Err(Located {
                line: self.line,
                message,
            });
        }
        let file: File = match toml::from_str(self.text) {
            Ok(file) => file,
            Err(error) => self.without_unknown_keys(&error, errors)?,
        };
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

    /// The table without the keys that nobody knows, each of which becomes an error of its own; or what else is wrong.
    fn without_unknown_keys(
        &self,
        first: &toml::de::Error,
        errors: &mut Vec<Located>,
    ) -> Result<File, Located> {
        let Ok(mut table) = toml::from_str::<toml::Table>(self.text) else {
            return Err(self.located(first));
        };
        let known = errors.len();
        loop {
            let error = match table.clone().try_into() {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            let Some(line) = remove_unknown(&error, &mut table).map(|key| self.line_of(&key))
            else {
                return Err(if errors.len() == known {
                    self.located(first)
                } else {
                    let (line, message) = (self.line, one_line(error.message()));
                    Located { line, message }
                });
            };
            let message = one_line(error.message());
            errors.push(Located { line, message });
        }
    }

    /// The line on which a key stands, or the table's first.
    fn line_of(&self, key: &str) -> usize {
        let starts = |line: &str| {
            let rest = line.trim_start().strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        };
        let offset = self.text.lines().position(starts).unwrap_or(0);
        self.line.saturating_add(offset)
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
            message: one_line(&message),
        }
    }
}

fn one_line(message: &str) -> String {
    message.replace('\n', " ")
}

/// Takes the key that an error calls unknown out of a service's table; `None` if the error is another.
fn remove_unknown(error: &toml::de::Error, table: &mut toml::Table) -> Option<String> {
    let key = error.message().strip_prefix("unknown field `")?;
    let key = key.split('`').next()?;
    let services = table.get_mut("service")?.as_array_mut()?;
    let mut services = services.iter_mut().filter_map(toml::Value::as_table_mut);
    services
        .find_map(|service| service.remove(key))
        .map(|_| key.to_owned())
}

#[cfg(test)]
mod tests;
