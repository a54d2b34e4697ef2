//! Reads a file of `[[service]]` and `[[mount]]` tables, or all such files of a folder.
//!
//! What cannot be read is reported and passed over: it never stops the other services.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Service;
use super::table::{self, Placed, PlacedMount};
use crate::mount;

/// What was found at a place.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The services, in the order of the files' names and their lines.
    pub services: Vec<Service>,
    /// The mounts, in the same order.
    pub mounts: Vec<PlacedMount>,
    /// What was passed over, and why: `FILE:LINE: …`.
    pub complaints: Vec<String>,
    /// Whether every file and table could be read, also where keys or names in them were passed over.
    pub is_whole: bool,
}

/// Largest file that is read, in bytes; a table of a thousand services has a tenth.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Reads `place`: a file, or a folder whose files ending in `.toml` are read in the order of their names.
pub fn load(place: &Path, known: &[&str]) -> Loaded {
    let mut loaded = Loaded {
        is_whole: true,
        ..Loaded::default()
    };
    let mut names: HashSet<String> = known.iter().map(|&name| name.to_owned()).collect();
    let mut all: Vec<(PathBuf, Placed)> = Vec::new();
    for path in loaded.files(place) {
        if place.is_dir() && !path.is_file() {
            // A pipe would hold us up for ever, and a device may have no end.
            let why = format!("read {}: no regular file", path.display());
            loaded.miss(why);
            continue;
        }
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) => {
                loaded.miss(format!("read {}: {error}", path.display()));
                continue;
            }
        };
        let parsed = table::parse(&text);
        loaded.is_whole &= !parsed.has_unread;
        let complaints = parsed
            .errors
            .iter()
            .map(|error| format!("{}:{error}", path.display()));
        loaded.complaints.extend(complaints);
        loaded.add_mounts(&path, parsed.mounts);
        for one in parsed.services {
            if names.insert(one.service.name.clone()) {
                all.push((path.clone(), one));
            } else {
                let name = &one.service.name;
                let (path, line) = (path.display(), one.line);
                loaded
                    .complaints
                    .push(format!("{path}:{line}: name `{name}` is taken"));
            }
        }
    }
    let placed: Vec<Placed> = all.into_iter().map(|(_, placed)| placed).collect();
    // A service that waits for what is not there is kept: it is shown as waiting, with what for.
    let relations = table::relations(&placed, known);
    loaded
        .complaints
        .extend(relations.iter().map(|error| error.message.clone()));
    loaded.services = placed.into_iter().map(|placed| placed.service).collect();
    loaded
}

impl Loaded {
    /// Notes that a part of the tables could not be read.
    fn miss(&mut self, why: String) {
        self.complaints.push(why);
        self.is_whole = false;
    }

    fn files(&mut self, place: &Path) -> Vec<PathBuf> {
        if !place.is_dir() {
            return vec![place.to_owned()];
        }
        let mut found: Vec<PathBuf> = match fs::read_dir(place) {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect(),
            Err(error) => {
                self.miss(format!("read {}: {error}", place.display()));
                Vec::new()
            }
        };
        // What editors leave lying about is hidden.
        let is_hidden = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        };
        found.retain(|path| path.extension().is_some_and(|end| end == "toml") && !is_hidden(path));
        found.sort();
        found
    }

    fn add_mounts(&mut self, path: &Path, mounts: Vec<PlacedMount>) {
        for placed in mounts {
            let target = &placed.mount.target;
            let taken = self
                .mounts
                .iter()
                .any(|other| mount::overlap(&other.mount.target, target));
            if taken {
                self.complaints.push(format!(
                    "{}:{}: another mount has {}, or a part of it",
                    path.display(),
                    placed.line,
                    target.display()
                ));
            } else {
                self.mounts.push(placed);
            }
        }
    }
}

/// Bytes that are no UTF-8 become U+FFFD, for which their table is refused: the others are none the worse for it.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(LARGEST.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST) {
        let why = format!("it has more than {LARGEST} bytes");
        return Err(io::Error::other(why));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
