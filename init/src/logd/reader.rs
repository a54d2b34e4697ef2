//! Segments of a log to records, while logd writes and removes them.
//!
//! Segments are files named by a growing number; a record never spans two.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gokrazy_core::{log_record::Record, log_record::Stream, regular_file};

use super::backward::Search;

/// Bytes read at a time; many times the longest record.
const CHUNK: usize = 64 * 1024;

/// Which records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Whatever there is.
    All,
}

impl Wanted {
    fn takes(self, line: &[u8]) -> bool {
        let Some(record) = Record::parse(line) else {
            return false;
        };
        match (self, record.stream) {
            (Self::All, _) | (Self::Out, Stream::Out) => true,
            // What the kernel says is no service's output, and reads like an error stream.
            (Self::Err, Stream::Err | Stream::Kernel) => true,
            (Self::Out, Stream::Err | Stream::Kernel) | (Self::Err, Stream::Out) => false,
        }
    }
}

/// A place between two records; `Display` and [`Place::parse`] carry it over a reconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    segment: u64,
    offset: u64,
}

impl Place {
    /// Before whatever is there.
    pub const START: Self = Self {
        segment: 0,
        offset: 0,
    };

    /// How many segments on it is from `earlier`.
    pub fn segments_since(self, earlier: Self) -> u64 {
        self.segment.saturating_sub(earlier.segment)
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (segment, offset) = text.split_once('-')?;
        Some(Self {
            segment: segment.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.segment, self.offset)
    }
}

/// Reads a log from a place on.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    wanted: Wanted,
    place: Place,
    /// What was there when the reader was told to end with it.
    snapshot: Option<Snapshot>,
}

/// The segments of a moment, held open: a flood removes them from the folder sooner than they can be read.
#[derive(Debug)]
struct Snapshot {
    /// Numbers, oldest first.
    segments: Vec<(u64, File)>,
    end: Place,
}

impl Snapshot {
    fn of(folder: &Path) -> Self {
        let segments: Vec<(u64, File)> = segments(folder)
            .into_iter()
            .filter_map(|number| Some((number, open(folder, number).ok()?)))
            .collect();
        let end = segments
            .last()
            .map_or(Place::START, |(segment, file)| Place {
                segment: *segment,
                offset: file.metadata().map_or(0, |found| found.len()),
            });
        Self { segments, end }
    }

    /// Where the last `records` records begin; what cannot be read counts as the beginning.
    fn before_end(&self, wanted: Wanted, records: usize) -> Place {
        let mut search = Search::new(records);
        let mut place = Place::START;
        for (segment, file) in self.segments.iter().rev() {
            let segment = *segment;
            let length = match segment == self.end.segment {
                true => Ok(self.end.offset),
                false => file.metadata().map(|found| found.len()),
            };
            let read = |piece: &mut [u8], from| file.read_exact_at(piece, from);
            let found =
                length.and_then(|length| search.segment(length, read, |line| wanted.takes(line)));
            let Ok(found) = found else {
                break;
            };
            let offset = found.unwrap_or(0);
            place = Place { segment, offset };
            if found.is_some() {
                break;
            }
        }
        place
    }

    fn file(&self, segment: u64) -> Option<&File> {
        let found = self.segments.iter().find(|(number, _)| *number == segment);
        found.map(|(_, file)| file)
    }
}

impl Reader {
    /// A reader that begins at `place`; one that is gone means the oldest record there is.
    pub fn at(folder: PathBuf, wanted: Wanted, place: Place) -> Self {
        Self {
            folder,
            wanted,
            place,
            snapshot: None,
        }
    }

    /// The same reader, which ends with what is there now.
    ///
    /// Without this a log that is written faster than it is read has no end.
    #[must_use]
    pub fn to_here(self) -> Self {
        let snapshot = Some(Snapshot::of(&self.folder));
        Self { snapshot, ..self }
    }

    /// The same reader, which goes on with what comes.
    #[must_use]
    pub fn onward(self) -> Self {
        Self {
            snapshot: None,
            ..self
        }
    }

    /// A reader that begins `records` records before the end and goes on with what comes.
    pub fn from_end(folder: PathBuf, wanted: Wanted, records: usize) -> Self {
        let all = Self::at(folder, wanted, Place::START);
        all.to_here().back(records).onward()
    }

    /// The same reader, which begins `records` records before the end of what was there when it was told to end there.
    #[must_use]
    pub fn back(self, records: usize) -> Self {
        let snapshot = self.snapshot.as_ref();
        let place = snapshot.map(|held| held.before_end(self.wanted, records));
        Self {
            place: place.unwrap_or(self.place),
            ..self
        }
    }

    /// A reader that begins at the oldest record that is there now; what is removed before it is read is a gap.
    pub fn from_oldest(folder: PathBuf, wanted: Wanted) -> Self {
        let segment = segments(&folder).first().copied().unwrap_or(0);
        Self::at(folder, wanted, Place { segment, offset: 0 })
    }

    /// Where reading has got to.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Reads on from a place where it has been before.
    pub fn return_to(&mut self, place: Place) {
        self.place = place;
    }

    /// The log's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads on and gives each record that is wanted to `put`, with the place behind it.
    ///
    /// Returns whether there may be more at once; `false` means that logd must write first, or that the end is reached.
    pub fn read(&mut self, mut put: impl FnMut(&[u8], Place)) -> bool {
        if self.left() == 0 {
            return false;
        }
        let bytes = self.chunk().unwrap_or_default();
        let complete = bytes.iter().rposition(|byte| *byte == b'\n');
        let Some(complete) = complete.and_then(|last| bytes.get(..=last)) else {
            return self.skip(&bytes);
        };
        for line in complete.split_inclusive(|byte| *byte == b'\n') {
            let length = u64::try_from(line.len()).unwrap_or(0);
            self.place.offset = self.place.offset.saturating_add(length);
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if self.wanted.takes(line) {
                put(line, self.place);
            }
        }
        true
    }

    /// Nothing complete is there: goes to the next segment if there is one, past what cannot be a record, or nowhere.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= CHUNK {
            let length = u64::try_from(bytes.len()).unwrap_or(0);
            self.place.offset = self.place.offset.saturating_add(length);
            return true;
        }
        let later = |number: &u64| *number > self.place.segment;
        let next = match &self.snapshot {
            Some(Snapshot { segments, .. }) => {
                segments.iter().map(|(number, _)| *number).find(later)
            }
            None => segments(&self.folder).into_iter().find(later),
        };
        match next {
            // The rest of this one was written before the next one was begun, perhaps since we looked.
            Some(_) if self.snapshot.is_none() && self.has_grown(bytes) => true,
            Some(segment) => {
                self.place = Place { segment, offset: 0 };
                true
            }
            None => false,
        }
    }

    fn has_grown(&self, bytes: &[u8]) -> bool {
        self.chunk().is_ok_and(|again| again.len() > bytes.len())
    }

    fn chunk(&self) -> io::Result<Vec<u8>> {
        let segment = self.place.segment;
        let held = self.snapshot.as_ref().and_then(|held| held.file(segment));
        match held {
            Some(file) => self.chunk_of(file),
            None => self.chunk_of(&open(&self.folder, segment)?),
        }
    }

    fn chunk_of(&self, mut file: &File) -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(self.place.offset))?;
        let mut bytes = Vec::new();
        let chunk = u64::try_from(CHUNK).unwrap_or(u64::MAX);
        file.take(chunk.min(self.left())).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes up to where reading ends, if that is in this segment.
    fn left(&self) -> u64 {
        let end = self.snapshot.as_ref().map(|held| held.end);
        match end {
            Some(end) if self.place >= end => 0,
            Some(end) if self.place.segment == end.segment => {
                end.offset.saturating_sub(self.place.offset)
            }
            Some(_) | None => u64::MAX,
        }
    }
}

/// The text of the newest record, for people.
pub fn last_text(folder: &Path) -> Option<String> {
    let newest = *segments(folder).last()?;
    let mut file = open(folder, newest).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))
        .ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let mut lines = bytes.rsplit(|byte| *byte == b'\n');
    let text = lines.find_map(Record::parse).map(|record| record.text)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Numbers of the segments, oldest first.
fn segments(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".log")?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

fn open(folder: &Path, number: u64) -> io::Result<File> {
    regular_file::open(&folder.join(format!("{number:010}.log")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:010}.log"))
    }
    use gokrazy_core::atomic::{Durability, replace};

    struct Log(PathBuf);

    impl Log {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("gokrazy-web-log-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn segment(&self, number: u64, text: &str) {
            let path = segment_path(&self.0, number);
            replace(&path, text.as_bytes(), 0o640, Durability::Volatile).unwrap();
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn lines(stream: &str, texts: &[&str]) -> String {
        let line = |text: &&str| format!("1.0 2026-11-25T16:15:05.123Z {stream} 6 {text}\n");
        texts.iter().map(line).collect()
    }

    fn texts(reader: &mut Reader) -> Vec<String> {
        let mut texts = Vec::new();
        while reader.read(|line, _| {
            let record = Record::parse(line).unwrap();
            texts.push(String::from_utf8_lossy(record.text).into_owned());
        }) {}
        texts
    }

    #[test]
    fn segments_are_read_in_order_and_followed_over_their_end() {
        let log = Log::new("order");
        log.segment(9, &lines("out", &["a", "b"]));
        log.segment(10, &lines("err", &["c"]));
        let mut reader = Reader::at(log.0.clone(), Wanted::All, Place::START);
        assert_eq!(texts(&mut reader), ["a", "b", "c"]);
        assert_eq!(texts(&mut reader), [""; 0]);
        // Half a record is left until its end has come.
        let more = lines("err", &["c"]) + "1.0 2026-11-25T16:15:05.123Z out 6 hal";
        log.segment(10, &more);
        assert_eq!(texts(&mut reader), [""; 0]);
        log.segment(10, &(more + "f\n"));
        log.segment(12, &lines("out", &["d"]));
        assert_eq!(texts(&mut reader), ["half", "d"]);
        // What was removed before it was read is gone, and the rest is not.
        fs::remove_file(segment_path(&log.0, 12)).unwrap();
        log.segment(14, &lines("out", &["e"]));
        assert_eq!(texts(&mut reader), ["e"]);
    }

    #[test]
    fn a_reader_goes_on_only_when_all_of_a_segment_was_seen() {
        let log = Log::new("rest");
        log.segment(1, &lines("out", &["a"]));
        let mut reader = Reader::at(log.0.clone(), Wanted::All, Place::START);
        assert_eq!(texts(&mut reader), ["a"]);
        log.segment(1, &lines("out", &["a", "b"]));
        log.segment(2, &lines("out", &["c"]));
        // As if it had looked just before both were written.
        assert!(reader.skip(&[]));
        assert_eq!(texts(&mut reader), ["b", "c"]);
    }

    #[test]
    fn a_replay_counts_what_is_wanted() {
        let log = Log::new("replay");
        log.segment(1, &lines("out", &["a", "b"]));
        log.segment(
            2,
            &(lines("out", &["c"]) + &lines("err", &["x"]) + &lines("out", &["d"])),
        );
        let replay = |wanted, records| texts(&mut Reader::from_end(log.0.clone(), wanted, records));
        assert_eq!(replay(Wanted::Out, 3), ["b", "c", "d"]);
        assert_eq!(replay(Wanted::Err, 3), ["x"]);
        assert_eq!(replay(Wanted::All, 2), ["x", "d"]);
        assert_eq!(replay(Wanted::All, 100), ["a", "b", "c", "x", "d"]);
        assert_eq!(replay(Wanted::All, 0), [""; 0]);
        // A record that is being written is none of the last ones yet.
        let half = lines("out", &["c", "d"]) + "1.0 2026-11-25T16:15:05.123Z out 6 ha";
        log.segment(3, &half);
        let last = Reader::at(log.0.clone(), Wanted::All, Place::START).to_here();
        let mut last = last.back(1);
        assert_eq!(texts(&mut last), ["d"]);
        log.segment(3, &(half + "lf\n"));
        assert_eq!(texts(&mut last.onward()), ["half"]);
        log.segment(3, &lines("out", &["d"]));
        assert_eq!(last_text(&log.0).as_deref(), Some("d"));
    }

    #[test]
    fn a_reader_to_here_is_not_led_on_by_what_is_written_meanwhile() {
        let log = Log::new("here");
        log.segment(1, &lines("out", &["a"]));
        let mut first = Reader::at(log.0.clone(), Wanted::All, Place::START).to_here();
        log.segment(1, &lines("out", &["a", "b"]));
        log.segment(2, &lines("out", &["c"]));
        assert_eq!(texts(&mut first), ["a"]);
        assert_eq!(texts(&mut first), [""; 0]);
        assert_eq!(texts(&mut first.onward()), ["b", "c"]);
        // What is removed meanwhile is read all the same, and what replaces it is not.
        let mut late = Reader::at(log.0.clone(), Wanted::All, Place::START).to_here();
        fs::remove_file(segment_path(&log.0, 1)).unwrap();
        fs::remove_file(segment_path(&log.0, 2)).unwrap();
        log.segment(3, &lines("out", &["d"]));
        assert_eq!(texts(&mut late), ["a", "b", "c"]);
        let absent = Reader::at(log.0.join("absent"), Wanted::All, Place::START);
        assert_eq!(texts(&mut { absent.to_here() }), [""; 0]);
    }

    #[test]
    fn a_place_carries_over_a_reconnection() {
        let log = Log::new("place");
        log.segment(3, &lines("out", &["a", "b", "c"]));
        let mut places = Vec::new();
        Reader::at(log.0.clone(), Wanted::All, Place::START).read(|_, _| {});
        let mut reader = Reader::at(
            log.0.clone(),
            Wanted::All,
            Place {
                segment: 3,
                offset: 0,
            },
        );
        reader.read(|_, place| places.push(place.to_string()));
        let place = Place::parse(&places[1]).unwrap();
        assert_eq!(
            texts(&mut Reader::at(log.0.clone(), Wanted::All, place)),
            ["c"]
        );
        for bad in ["", "1", "-", "a-b", "1-2-3", "99999999999999999999999-1"] {
            assert_eq!(Place::parse(bad), None);
        }
    }

    #[test]
    fn nothing_and_garbage_are_no_records() {
        let log = Log::new("garbage");
        assert_eq!(last_text(&log.0), None);
        assert_eq!(
            texts(&mut Reader::from_end(log.0.clone(), Wanted::All, 5)),
            [""; 0]
        );
        log.segment(
            1,
            &format!("\u{0}\n{}\n{}", "x".repeat(3 * CHUNK), lines("out", &["a"])),
        );
        assert_eq!(
            texts(&mut Reader::at(log.0.clone(), Wanted::All, Place::START)),
            ["a"]
        );
        let absent = Reader::at(log.0.join("absent"), Wanted::All, Place::START);
        assert_eq!(texts(&mut { absent }), [""; 0]);
    }
}
