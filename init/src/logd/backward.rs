//! Where the last records of a segment begin, looked for from its end; pure.

use std::io;

use memchr::memrchr;

/// Bytes read at a time; several times the longest record.
const CHUNK: usize = 64 * 1024;

/// Most bytes of records that are not wanted.
const MAX_PASSED: u64 = 2 * 1024 * 1024;

/// A look for a number of records, over one segment after the other, the newest first.
#[derive(Debug)]
pub(super) struct Search {
    left: usize,
    passed: u64,
}

impl Search {
    /// Looks for the last `records` records.
    pub(super) fn new(records: usize) -> Self {
        Self {
            left: records,
            passed: 0,
        }
    }

    /// Goes through a segment of `length` bytes, of which `read` reads a piece at an offset, and `takes` tells which
    /// records are wanted; returns the offset at which the search has ended, if it has.
    ///
    /// What stands behind the last line break is no record yet.
    ///
    /// # Errors
    /// What `read` fails with.
    pub(super) fn segment(
        &mut self,
        length: u64,
        mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
        takes: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<u64>> {
        let mut start = length;
        let mut bytes = Vec::new();
        let mut is_cut = false;
        while start > 0 {
            let from = start.saturating_sub(u64::try_from(CHUNK).unwrap_or(0));
            let mut piece = vec![0; usize::try_from(start.saturating_sub(from)).unwrap_or(0)];
            read(&mut piece, from)?;
            start = from;
            piece.append(&mut bytes);
            bytes = piece;
            if !is_cut {
                bytes.truncate(behind_last_break(&bytes));
                is_cut = !bytes.is_empty();
            }
            if let Some(offset) = self.lines(&mut bytes, start, &takes) {
                return Ok(Some(offset));
            }
            if bytes.len() > CHUNK {
                // No record is so long.
                bytes.drain(CHUNK..);
            }
        }
        Ok(self.is_over().then_some(0))
    }

    /// Goes back through whole lines of `bytes`, which begin at offset `start` and end with a line break.
    fn lines(
        &mut self,
        bytes: &mut Vec<u8>,
        start: u64,
        takes: &impl Fn(&[u8]) -> bool,
    ) -> Option<u64> {
        while let Some((_, text)) = bytes.split_last() {
            if self.is_over() {
                return Some(start.saturating_add(size(bytes.len())));
            }
            let begin = behind_last_break(text);
            if begin == 0 && start > 0 {
                // Its beginning is not there yet.
                return None;
            }
            let line = text.get(begin..).unwrap_or_default();
            match takes(line) {
                true => self.left = self.left.saturating_sub(1),
                false => self.passed = self.passed.saturating_add(size(line.len())),
            }
            bytes.truncate(begin);
        }
        None
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.passed > MAX_PASSED
    }
}

fn behind_last_break(bytes: &[u8]) -> usize {
    memrchr(b'\n', bytes).map_or(0, |at| at.saturating_add(1))
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the search ends in `text`, and how many bytes it read.
    fn look(text: &[u8], search: &mut Search) -> (Option<u64>, usize) {
        let mut cost = 0;
        let read = |piece: &mut [u8], from: u64| {
            let from = usize::try_from(from).unwrap();
            piece.copy_from_slice(&text[from..from + piece.len()]);
            cost += piece.len();
            Ok(())
        };
        let takes = |line: &[u8]| !line.starts_with(b"no");
        let end = search.segment(size(text.len()), read, takes).unwrap();
        (end, cost)
    }

    #[track_caller]
    fn check(text: &str, records: usize, want: Option<&str>) {
        let (end, _) = look(text.as_bytes(), &mut Search::new(records));
        let rest = end.map(|end| &text[usize::try_from(end).unwrap()..]);
        assert_eq!(rest, want, "{records} of {text:?}");
    }

    #[test]
    fn the_last_records_are_counted_from_the_end() {
        for (records, want) in [
            (0, Some("half")),
            (1, Some("c\nhalf")),
            (2, Some("b\nno\nc\nhalf")),
            (3, Some("a\nb\nno\nc\nhalf")),
            (4, None),
        ] {
            check("a\nb\nno\nc\nhalf", records, want);
        }
        check("", 1, None);
        check("half", 1, None);
        check("\n\n", 1, Some("\n"));
    }

    #[test]
    fn a_search_goes_on_in_the_segment_before() {
        let mut search = Search::new(3);
        assert_eq!(look(b"c\nd\n", &mut search).0, None);
        assert_eq!(look(b"a\nb\n", &mut search).0, Some(2));
        // One whose last record is the first of a segment ends there, and not in the one before.
        let mut search = Search::new(2);
        assert_eq!(look(b"c\nd\n", &mut search).0, Some(0));
    }

    #[test]
    fn few_records_cost_few_bytes_however_long_the_log_is() {
        let text: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
        for (records, most) in [(10, CHUNK), (20_000, 5 * CHUNK)] {
            let (end, cost) = look(text.as_bytes(), &mut Search::new(records));
            let rest = &text[usize::try_from(end.unwrap()).unwrap()..];
            assert_eq!(rest.lines().count(), records);
            assert!(rest.starts_with(&format!("line {}\n", 200_000 - records)));
            assert!(cost <= most, "{records} records: {cost} bytes");
        }
    }

    #[test]
    fn records_of_any_length_are_found_over_the_borders_of_pieces() {
        let mut text = String::new();
        let mut begins = Vec::new();
        for turn in 0..100 {
            begins.push(size(text.len()));
            text += &"x".repeat(turn * 97 % 8192);
            text += "\n";
        }
        for (records, begin) in (1..).zip(begins.iter().rev()) {
            let (end, _) = look(text.as_bytes(), &mut Search::new(records));
            assert_eq!(end, Some(*begin), "{records}");
        }
    }

    #[test]
    fn what_is_not_wanted_and_what_has_no_end_is_bounded() {
        let unwanted = "no record\n".repeat(400_000);
        let (end, cost) = look(unwanted.as_bytes(), &mut Search::new(1));
        assert!(end.is_some() && cost < 3 * 1024 * 1024, "{cost}");
        let endless = "x".repeat(5 * CHUNK) + "\nlast\n";
        let (end, _) = look(endless.as_bytes(), &mut Search::new(2));
        assert_eq!(end, Some(0));
    }
}
