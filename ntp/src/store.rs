//! The files: drift and last time below the state folder, the clock's state and DHCP's servers below the run folder.
//!
//! Every file may be missing, garbage, a folder or a pipe; then it says nothing, and the daemon goes on without.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gokrazy_core::atomic::{self, Durability, ReplaceError};
use gokrazy_core::clock::ClockState;
use gokrazy_core::keyvalue::Document;
use gokrazy_core::paths;

use crate::discipline::{LEARNED_RATE, from_kernel, to_kernel};
use crate::names::Spec;
use crate::wall::Wall;

/// Below the state folder: the frequency correction in ppm, and its deviation if that is above 2 ppm.
const DRIFT: &str = "drift";

/// Below the state folder: the last known time in seconds since 1970.
const TIME: &str = "time";

/// Longest file that is looked at, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A saved time that is this far ahead of a synchronised clock is an error of the past, and replaced, in seconds.
const MISSAVED: i64 = 86_400;

/// What was learned of the oscillator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// The correction, in seconds per second.
    pub frequency: f64,
    /// Its deviation, in seconds per second; at least what an oscillator changes between two starts.
    pub deviation: f64,
}

/// The daemon's folders.
#[derive(Debug, Clone)]
pub struct Store {
    state: PathBuf,
    run: PathBuf,
}

impl Store {
    /// Files below these two folders, which are made if they are missing.
    pub fn new(state: PathBuf, run: PathBuf) -> Self {
        // What is wrong with a folder shows, with its name, when a file in it is written.
        let _ = fs::create_dir_all(&state);
        let _ = fs::create_dir_all(&run);
        Self { state, run }
    }

    /// The frequency correction that was learned.
    pub fn drift(&self) -> Option<Drift> {
        parse_drift(&read(&self.state.join(DRIFT)).ok()?)
    }

    /// Saves the frequency correction.
    ///
    /// # Errors
    /// The step that failed; the old file stays.
    pub fn save_drift(&self, drift: &Drift) -> Result<(), ReplaceError> {
        self.replace(DRIFT, &render_drift(drift))
    }

    /// The last time that was saved.
    pub fn time(&self) -> Option<Wall> {
        parse_time(&read(&self.state.join(TIME)).ok()?)
    }

    /// Saves the time, forward only: a clock that has not been set yet must not take the saved time back.
    ///
    /// # Errors
    /// The step that failed; the old file stays.
    pub fn save_time(&self, wall: Wall, synchronised: bool) -> Result<(), ReplaceError> {
        if keeps(self.time(), wall, synchronised) {
            return Ok(());
        }
        self.replace(TIME, &format!("{}\n", wall.seconds()))
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), ReplaceError> {
        replace(&self.state, name, text, Durability::Synced)
    }

    /// The clock's state as an earlier process left it.
    pub fn clock(&self) -> Option<ClockState> {
        ClockState::parse(&read(&self.run.join(paths::CLOCK)).ok()?).ok()
    }

    /// Publishes the clock's state.
    ///
    /// # Errors
    /// The step that failed; the old file stays if what it says is no more than what is true.
    pub fn publish(&self, state: &ClockState) -> Result<(), ReplaceError> {
        let published = replace(
            &self.run,
            paths::CLOCK,
            &state.render(),
            Durability::Volatile,
        );
        if published.is_err() && !state.synchronised {
            // An old claim must not outlive its truth; that the file is missing says the same as `no`.
            let _ = fs::remove_file(self.run.join(paths::CLOCK));
        }
        published
    }

    /// The folder of lease files.
    pub fn leases(&self) -> PathBuf {
        self.run.join(paths::NET_DIR)
    }

    /// NTP servers of all leases, by interface name; what is no lease is passed over.
    pub fn lease_servers(&self) -> Vec<Spec> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.leases())
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !is_hidden(path))
            .collect();
        files.sort();
        let mut servers = Vec::new();
        for server in files.iter().flat_map(|path| servers_of(path)) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }
}

/// Replaces a file in a folder that someone may have cleared away.
fn replace(
    folder: &Path,
    name: &str,
    text: &str,
    durability: Durability,
) -> Result<(), ReplaceError> {
    let made = fs::create_dir_all(folder);
    atomic::replace(&folder.join(name), text.as_bytes(), 0o644, durability).map_err(|error| {
        match made {
            Ok(()) => error,
            Err(reason) => error.because(reason),
        }
    })
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Only the one key is read, so that a lease of a newer format still tells its servers; what names none is passed over.
fn servers_of(path: &Path) -> Vec<Spec> {
    let text = read(path).unwrap_or_default();
    let document = Document::parse(&text).unwrap_or_default();
    let named = document.get("ntp").unwrap_or_default();
    named
        .split_ascii_whitespace()
        .flat_map(str::parse)
        .collect()
}

/// Whether the saved time stays as it is.
fn keeps(saved: Option<Wall>, wall: Wall, synchronised: bool) -> bool {
    let Some(saved) = saved else { return false };
    let ahead = saved.seconds().saturating_sub(wall.seconds());
    ahead >= 0 && !(synchronised && ahead > MISSAVED)
}

/// One number, and a second only where the first is worth less than it looks.
fn render_drift(drift: &Drift) -> String {
    let ppm = from_kernel(to_kernel(drift.frequency)) * 1e6;
    if drift.deviation <= LEARNED_RATE {
        return format!("{ppm:.3}\n");
    }
    format!("{ppm:.3} {:.3}\n", drift.deviation * 1e6)
}

fn parse_drift(text: &str) -> Option<Drift> {
    let mut words = text.split_ascii_whitespace();
    let ppm: f64 = words.next()?.parse().ok()?;
    let deviation = words.next().and_then(|word| word.parse::<f64>().ok());
    (ppm.abs() <= 500.0).then_some(Drift {
        frequency: ppm / 1e6,
        deviation: deviation.map_or(LEARNED_RATE, |ppm| (ppm / 1e6).max(LEARNED_RATE)),
    })
}

fn parse_time(text: &str) -> Option<Wall> {
    let seconds: i64 = text.trim().parse().ok()?;
    (seconds > 0).then_some(Wall::from_seconds(seconds))
}

/// Reads a regular file, and only its beginning.
fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> (Store, PathBuf) {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-ntp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        (Store::new(folder.join("state"), folder.join("run")), folder)
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let (store, folder) = store("back");
        assert_eq!(
            (store.drift(), store.time(), store.clock()),
            (None, None, None)
        );
        let drift = |frequency, deviation| Drift {
            frequency,
            deviation,
        };
        for (saved, text) in [
            (drift(-12.345e-6, 1e-7), "-12.345\n"),
            (drift(7.5e-6, 20e-6), "7.500 20.000\n"),
        ] {
            store.save_drift(&saved).unwrap();
            assert_eq!(
                fs::read_to_string(folder.join("state/drift")).unwrap(),
                text
            );
            let read = store.drift().unwrap();
            assert!((read.frequency - saved.frequency).abs() < 1e-9);
            assert!((read.deviation - saved.deviation.max(LEARNED_RATE)).abs() < 1e-9);
        }
        store
            .save_time(Wall::from_seconds(1_800_000_000), false)
            .unwrap();
        assert_eq!(store.time(), Some(Wall::from_seconds(1_800_000_000)));
        store.publish(&ClockState::default()).unwrap();
        assert_eq!(store.clock(), Some(ClockState::default()));
        fs::remove_dir_all(&folder).unwrap();
        store.publish(&ClockState::default()).unwrap();
        store
            .save_time(Wall::from_seconds(1_800_000_000), false)
            .unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_saved_time_moves_forward_only() {
        let at = Wall::from_seconds;
        assert!(!keeps(None, at(5), false));
        assert!(!keeps(Some(at(5)), at(6), false));
        assert!(keeps(Some(at(6)), at(5), true));
        assert!(keeps(Some(at(1_000_000)), at(5), false));
        assert!(!keeps(Some(at(1_000_000)), at(5), true));
    }

    #[test]
    fn garbage_says_nothing() {
        for text in ["", "x", "NaN", "inf", "501", "-1e9", "\0\0", "--1", "1,5"] {
            assert_eq!(parse_drift(text), None, "{text:?}");
        }
        for (text, deviation) in [
            ("12.5 0.1\nmore", 2e-6),
            ("12.5 x", 2e-6),
            ("12.5 NaN", 2e-6),
            ("12.5 9", 9e-6),
        ] {
            let read = parse_drift(text).unwrap();
            assert_eq!(
                (read.frequency, read.deviation),
                (12.5e-6, deviation),
                "{text}"
            );
        }
        for text in [
            "",
            "x",
            "-5",
            "0",
            "99999999999999999999",
            "1.5",
            "\u{fffd}",
        ] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn folders_in_place_of_files_say_nothing() {
        let (store, folder) = store("folders");
        for name in ["state/drift", "state/time", "run/clock", "run/net/eth0"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        assert_eq!(
            (store.drift(), store.time(), store.clock()),
            (None, None, None)
        );
        assert!(store.lease_servers().is_empty());
        assert!(
            store
                .save_drift(&Drift {
                    frequency: 0.0,
                    deviation: 0.0
                })
                .is_err()
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_the_reason() {
        let nowhere = PathBuf::from("/sys/nt-store");
        let store = Store::new(nowhere.clone(), nowhere);
        let error = store.save_time(Wall::from_seconds(1_800_000_000), true);
        let reason = error.unwrap_err().io_error().kind();
        assert_ne!(reason, io::ErrorKind::NotFound);
    }

    #[test]
    fn servers_come_from_all_leases_once() {
        let (store, folder) = store("leases");
        fs::create_dir_all(store.leases()).unwrap();
        let write = |name: &str, text: &str| {
            atomic::replace(
                &store.leases().join(name),
                text.as_bytes(),
                0o644,
                Durability::Volatile,
            )
            .unwrap();
        };
        write("eth0", "interface=eth0\nntp='192.0.2.1 192.0.2.2'\n");
        write("eth1", "ntp=192.0.2.1\n");
        write("eth2", "ntp='0.0.0.0 192.0.2.9 $(reboot)'\n");
        write("eth3", "what is this\n");
        write(".eth4", "ntp=192.0.2.7\n");
        let servers: Vec<String> = store
            .lease_servers()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(servers, ["192.0.2.1:123", "192.0.2.2:123", "192.0.2.9:123"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
