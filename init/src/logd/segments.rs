//! A bounded log on disk: segments named by a growing number, the oldest removed when the bound is reached.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gokrazy_core::log_record::{Stream, Times, prefix};

/// Into so many segments a log's bound is divided: this part of it goes when room is needed.
const PARTS: u64 = 4;

/// Smallest bound of a log, in bytes.
const SMALLEST: u64 = 16 * 1024;

/// Records that have been made and not been written are at most so many bytes.
const BUFFER: usize = 64 * 1024;

/// A log.
#[derive(Debug)]
pub struct Log {
    /// Folder of all logs.
    above: Rc<Path>,
    /// Its own folder in there.
    name: Rc<str>,
    limit: u64,
    /// Numbers and sizes of the segments, oldest first; the last one is written to.
    segments: VecDeque<(u64, u64)>,
    /// What is to complete the segment that is written to, and whole segments behind it.
    sealed: VecDeque<Vec<u8>>,
    /// Whether the first of them were too old to keep before they were written.
    skipped: bool,
    /// What has been taken in behind those.
    buffer: Vec<u8>,
    /// The room of records that are written, for the next ones of a flood.
    spare: Vec<u8>,
    lost: u64,
    /// Whether the last write failed.
    failed: bool,
}

impl Log {
    /// A log of at most `limit` bytes in the folder `name` of `above`, going on behind what is there.
    pub fn open(above: Rc<Path>, name: Rc<str>, limit: u64) -> Self {
        let mut segments: Vec<(u64, u64)> = fs::read_dir(above.join(&*name))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((number(&entry.path())?, entry.metadata().ok()?.len())))
            .collect();
        segments.sort_unstable();
        Self {
            above,
            name,
            limit: limit.max(SMALLEST),
            segments: segments.into(),
            sealed: VecDeque::new(),
            skipped: false,
            buffer: Vec::new(),
            spare: Vec::new(),
            lost: 0,
            failed: false,
        }
    }

    /// Takes in a record, by its beginning and its text; it is on the disk after the next [`Log::flush`] at the latest.
    pub fn put(&mut self, beginning: &[u8], text: &[u8]) {
        let length = beginning.len().saturating_add(text.len()).saturating_add(1);
        let is_first = self.sealed.is_empty() && !self.skipped;
        let filled =
            bytes(self.buffer.len()).saturating_add(if is_first { self.current() } else { 0 });
        if filled > 0 && filled.saturating_add(bytes(length)) > self.limit / PARTS {
            self.seal();
        } else if self.buffer.len().saturating_add(length) > BUFFER {
            self.flush();
        }
        self.buffer.extend_from_slice(beginning);
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
    }

    /// A segment is full; under a flood, those go that nobody would see before the next ones take their place.
    fn seal(&mut self) {
        let room = std::mem::take(&mut self.spare);
        self.sealed
            .push_back(std::mem::replace(&mut self.buffer, room));
        if bytes(self.sealed.len()) > PARTS {
            let oldest = self.sealed.pop_front();
            self.keep_room(oldest.unwrap_or_default());
            self.skipped = true;
        }
    }

    fn keep_room(&mut self, mut records: Vec<u8>) {
        records.clear();
        self.spare = records;
    }

    /// Gives back what a flood needs and a quiet log does not: there may be a thousand of them.
    pub fn rest(&mut self) {
        self.buffer.shrink_to_fit();
        self.spare = Vec::new();
    }

    /// Bytes of the segment that is written to.
    fn current(&self) -> u64 {
        self.segments.back().map_or(0, |(_, size)| *size)
    }

    fn start_segment(&mut self) {
        let next = self
            .segments
            .back()
            .map_or(1, |(number, _)| number.saturating_add(1));
        self.segments.push_back((next, 0));
        let room = self.limit - self.limit / PARTS;
        while self.segments.len() > 1 && self.total() > room {
            if let Some((number, _)) = self.segments.pop_front() {
                let _ = fs::remove_file(self.path(number));
            }
        }
    }

    fn total(&self) -> u64 {
        self.segments.iter().map(|(_, size)| size).sum()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder().join(format!("{number:010}.log"))
    }

    fn folder(&self) -> PathBuf {
        self.above.join(&*self.name)
    }

    /// Writes what has been taken in; what finds no room on the disk is counted and lost.
    pub fn flush(&mut self) {
        let mut is_next = std::mem::take(&mut self.skipped);
        for part in std::mem::take(&mut self.sealed) {
            self.write(&part, is_next);
            self.keep_room(part);
            is_next = true;
        }
        let mut last = std::mem::take(&mut self.buffer);
        self.write(&last, is_next);
        last.clear();
        self.buffer = last;
    }

    /// Writes to the segment that is there, or to the next.
    fn write(&mut self, records: &[u8], is_next: bool) {
        if records.is_empty() {
            return;
        }
        if self.segments.is_empty() {
            self.segments.push_back((1, 0));
        }
        if is_next && self.current() > 0 {
            self.start_segment();
        }
        let Some(&(number, _)) = self.segments.back() else {
            return;
        };
        let length = bytes(records.len());
        let written = self.append(number, records);
        self.failed = written.is_err();
        match written {
            Ok(()) => {
                if let Some((_, size)) = self.segments.back_mut() {
                    *size = size.saturating_add(length);
                }
            }
            Err(_) => self.lost = self.lost.saturating_add(length),
        }
    }

    /// Opened for each write, so that a thousand logs need no thousand descriptors.
    fn append(&self, number: u64, records: &[u8]) -> io::Result<()> {
        let path = self.path(number);
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(&path)
        };
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o750)
                    .create(self.folder())?;
                open()?
            }
            other => other?,
        };
        file.write_all(records)
    }

    /// Says in the log itself how much was lost before, once there is room again.
    pub fn confess(&mut self, times: Times) {
        if self.lost == 0 || self.failed {
            return;
        }
        let text = format!(
            "logd: {} bytes found no room on the disk",
            std::mem::take(&mut self.lost)
        );
        self.put(
            prefix(times, Stream::Err, false, 4).as_bytes(),
            text.as_bytes(),
        );
        self.flush();
    }
}

fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(folder: &Path, limit: u64) -> Log {
        Log::open(
            folder.parent().unwrap().into(),
            folder.file_name().unwrap().to_str().unwrap().into(),
            limit,
        )
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("gokrazy-logd-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn content(folder: &Path) -> (u64, Vec<u8>) {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let all: Vec<u8> = paths
            .iter()
            .flat_map(|path| fs::read(path).unwrap())
            .collect();
        (bytes(all.len()), all)
    }

    #[test]
    fn a_log_keeps_to_its_bound_and_keeps_the_newest() {
        let folder = folder("bound");
        let limit = 32 * 1024;
        let mut log = log(&folder, limit);
        for line in 0..20_000 {
            log.put(b"", format!("line {line}").as_bytes());
        }
        log.flush();
        let (total, text) = content(&folder);
        assert!(total <= limit && total > limit / 2, "{total}");
        assert!(text.ends_with(b"line 19998\nline 19999\n"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_flood_is_written_but_for_what_would_go_at_once() {
        let folder = folder("flood");
        let mut log = log(&folder, 32 * 1024);
        log.put(b"", b"before");
        log.flush();
        for line in 0..20_000 {
            log.put(b"", format!("line {line}").as_bytes());
        }
        assert!(log.sealed.len() <= 4 && log.skipped);
        log.flush();
        for line in 20_000..20_010 {
            log.put(b"", format!("line {line}").as_bytes());
            log.flush();
        }
        let (total, text) = content(&folder);
        assert!(total <= 32 * 1024 && total > 16 * 1024, "{total}");
        let text = String::from_utf8(text).unwrap();
        let numbers: Vec<u32> = text
            .lines()
            .map(|line| line.strip_prefix("line ").unwrap().parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(numbers.last(), Some(&20_009));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_new_keeper_goes_on_behind_the_old_one() {
        let folder = folder("again");
        for run in 0..3 {
            let mut log = log(&folder, SMALLEST);
            log.put(b"", format!("run {run}").as_bytes());
            log.flush();
        }
        assert_eq!(content(&folder).1, b"run 0\nrun 1\nrun 2\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_loses_lines_and_counts_them() {
        let mut log = log(Path::new("/proc/none"), SMALLEST);
        log.put(b"", b"gone");
        log.flush();
        log.confess(Times {
            boot_us: 0,
            wall_ms: 0,
        });
        assert_eq!(log.lost, 5);
    }
}
