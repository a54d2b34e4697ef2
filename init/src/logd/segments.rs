//! A bounded log on disk: segments named by a growing number, the oldest removed when the bound is reached.

use std::cell::RefCell;
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

/// Room is this large at first; more records than that get room for all that a buffer may hold.
const FEW: usize = 4 * 1024;

/// Room for records, and how much of it is filled.
///
/// It is never shorter than what it may hold, so that pieces of a line are put in at once where they belong.
#[derive(Debug, Default)]
struct Room {
    bytes: Vec<u8>,
    length: usize,
}

impl Room {
    fn filled(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Makes room for so many bytes more.
    fn reserve(&mut self, more: usize) {
        let needed = self.length.saturating_add(more);
        if needed > self.bytes.len() {
            let length = if needed > FEW {
                needed.max(BUFFER)
            } else {
                FEW
            };
            self.bytes.resize(length, 0);
        }
    }

    /// Takes in what there is room for.
    fn append(&mut self, from: &[u8]) {
        let end = self.length.saturating_add(from.len());
        if let Some(to) = self.bytes.get_mut(self.length..end) {
            copy(to, from);
            self.length = end;
        }
    }
}

/// Copies as `copy_from_slice` does between slices of one length: what a line has, in two pieces of a fixed length that
/// may overlap.
///
/// The C library of our images copies a few dozen bytes in a hundred cycles, which is more than all else that a line
/// costs.
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        1 => in_two::<1>(to, from),
        8..16 => in_two::<8>(to, from),
        16..32 => in_two::<16>(to, from),
        32..64 => in_two::<32>(to, from),
        64..128 => in_two::<64>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies what has `N` bytes at least and twice as many at most.
fn in_two<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

/// Room that all logs of a process share, for each is written before the next one is taken in: what a flood needs is
/// there once, and a thousand quiet logs need none.
#[derive(Debug, Clone, Default)]
pub struct Rooms(Rc<RefCell<Vec<Room>>>);

impl Rooms {
    /// Room that is empty, and may be there already.
    fn take(&self) -> Room {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, room: Room) {
        let mut rooms = self.0.borrow_mut();
        // A segment's parts, and what comes behind them.
        if !room.bytes.is_empty() && bytes(rooms.len()) <= PARTS {
            rooms.push(Room { length: 0, ..room });
        }
    }
}

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
    sealed: VecDeque<Room>,
    /// Whether the first of them were too old to keep before they were written.
    skipped: bool,
    /// What has been taken in behind those.
    buffer: Room,
    /// Where room for records comes from, and goes to once they are written.
    rooms: Rooms,
    lost: u64,
    /// Whether the last write failed.
    failed: bool,
}

impl Log {
    /// A log of at most `limit` bytes in the folder `name` of `above`, going on behind what is there.
    pub fn open(above: Rc<Path>, name: Rc<str>, limit: u64, rooms: Rooms) -> Self {
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
            buffer: Room::default(),
            rooms,
            lost: 0,
            failed: false,
        }
    }

    /// Takes in a record, by its beginning and its text; it is on the disk after the next [`Log::flush`] at the latest.
    pub fn put(&mut self, beginning: &[u8], text: &[u8]) {
        let length = beginning.len().saturating_add(text.len()).saturating_add(1);
        let is_first = self.sealed.is_empty() && !self.skipped;
        let filled =
            bytes(self.buffer.length).saturating_add(if is_first { self.current() } else { 0 });
        if filled > 0 && filled.saturating_add(bytes(length)) > self.limit / PARTS {
            self.seal();
        } else if self.buffer.length.saturating_add(length) > BUFFER {
            self.flush();
        }
        if self.buffer.bytes.is_empty() {
            self.buffer = self.rooms.take();
        }
        self.buffer.reserve(length);
        self.buffer.append(beginning);
        self.buffer.append(text);
        self.buffer.append(b"\n");
    }

    /// A segment is full; under a flood, those go that nobody would see before the next ones take their place.
    fn seal(&mut self) {
        self.sealed.push_back(std::mem::take(&mut self.buffer));
        if bytes(self.sealed.len()) > PARTS {
            let oldest = self.sealed.pop_front();
            self.rooms.give(oldest.unwrap_or_default());
            self.skipped = true;
        }
    }

    /// Bytes of the segment that is written to.
    fn current(&self) -> u64 {
        self.segments.back().map_or(0, |(_, size)| *size)
    }

    /// Makes room for a segment that begins with `records`, of which one may be longer than a segment is to be.
    fn start_segment(&mut self, records: u64) {
        let next = self
            .segments
            .back()
            .map_or(1, |(number, _)| number.saturating_add(1));
        self.segments.push_back((next, 0));
        let room = self.limit.saturating_sub(records.max(self.limit / PARTS));
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
        while let Some(part) = self.sealed.pop_front() {
            self.write(part.filled(), is_next);
            self.rooms.give(part);
            is_next = true;
        }
        let last = std::mem::take(&mut self.buffer);
        self.write(last.filled(), is_next);
        self.rooms.give(last);
    }

    /// Writes to the segment that is there, or to the next.
    fn write(&mut self, records: &[u8], is_next: bool) {
        if records.is_empty() {
            return;
        }
        if self.segments.is_empty() {
            self.segments.push_back((1, 0));
        }
        let length = bytes(records.len());
        if is_next && self.current() > 0 {
            self.start_segment(length);
        }
        let Some(&(number, _)) = self.segments.back() else {
            return;
        };
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
            Rooms::default(),
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

    /// The longest lines that there are, and short ones between them, in the smallest log.
    #[test]
    fn long_records_keep_to_the_bound_too() {
        let folder = folder("long");
        let mut log = log(&folder, SMALLEST);
        for turn in 0..60 {
            let length = if turn % 7 == 0 { 8192 } else { 90 };
            log.put(b"beginning ", &vec![b'x'; length]);
            log.flush();
            let (total, text) = content(&folder);
            assert!(total <= SMALLEST, "{total} in turn {turn}");
            assert!(text.ends_with(b"x\n"));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_taken_in_is_what_was_given() {
        let all: Vec<u8> = (0..=255).collect();
        let mut room = Room::default();
        let mut want = Vec::new();
        for length in 0..=all.len() {
            room.reserve(length);
            room.append(&all[..length]);
            want.extend_from_slice(&all[..length]);
            assert_eq!(room.filled(), want, "{length}");
        }
        assert_eq!(room.bytes.len(), BUFFER);
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
