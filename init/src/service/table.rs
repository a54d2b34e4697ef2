//! `[[service]]` and `[[mount]]` tables of TOML to services and mounts, with errors that tell where; pure.
//!
//! Each table is read by itself, so that a broken one costs nothing but itself ([`super::chunks`]).

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::Service;
use super::chunks::chunks;
use super::condition::Condition;
use super::reader;
use crate::mount::{self, Mount};

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

/// A mount and the line where its table starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedMount {
    /// Line, from 1.
    pub line: usize,
    /// The mount.
    pub mount: Mount,
}

/// What a text holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// Services of the whole tables.
    pub services: Vec<Placed>,
    /// Mounts of the whole tables.
    pub mounts: Vec<PlacedMount>,
    /// What is wrong with the others.
    pub errors: Vec<Located>,
    /// Whether a table could not be read, so that nobody knows what it was to say.
    pub has_unread: bool,
}

/// Checks a text of `[[service]]` and `[[mount]]` tables as the image builder must: every table whole, every name once, every
/// service that is waited for among them or in `known`, and no two services waiting for each other.
///
/// # Errors
/// All that is wrong, in the order of the lines.
pub fn check_services(text: &str, known: &[&str]) -> Result<Vec<Service>, Vec<Located>> {
    let parsed = parse(text);
    let mut errors = parsed.errors;
    errors.extend(relations(&parsed.services, known));
    if errors.is_empty() {
        Ok(parsed
            .services
            .into_iter()
            .map(|placed| placed.service)
            .collect())
    } else {
        errors.sort_by_key(|error| error.line);
        Err(errors)
    }
}

/// Reads what can be read: what the whole tables say, without keys that nobody knows, and what is wrong.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut names = HashSet::new();
    for chunk in chunks(text) {
        let line = chunk.line;
        match reader::read(&chunk, &mut parsed.errors) {
            Err(error) => {
                parsed.has_unread = true;
                parsed.errors.push(error);
            }
            Ok((services, mounts)) => {
                for service in services {
                    if names.insert(service.name.clone()) {
                        parsed.services.push(Placed { line, service });
                    } else {
                        let message =
                            format!("name `{}` is taken by an earlier service", service.name);
                        parsed.errors.push(Located { line, message });
                    }
                }
                for mount in mounts {
                    parsed.add(PlacedMount { line, mount });
                }
            }
        }
    }
    parsed
}

impl Parsed {
    /// Of two places of which one lies in the other, the first has it.
    fn add(&mut self, placed: PlacedMount) {
        let target = &placed.mount.target;
        let other = self
            .mounts
            .iter()
            .find(|other| mount::overlap(&other.mount.target, target));
        if let Some(other) = other {
            let message = format!(
                "key `target`: {} and {} of line {} lie in one another",
                target.display(),
                other.mount.target.display(),
                other.line
            );
            self.errors.push(Located {
                line: placed.line,
                message,
            });
        } else {
            self.mounts.push(placed);
        }
    }
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

#[cfg(test)]
mod tests;
