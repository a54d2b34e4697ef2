//! Bytes of a stream to records: one for each line, longer ones split; pure.

use std::rc::Rc;

use gokrazy_core::log_record::{Stream, Times, prefix};

/// Longest text of one record, in bytes; a longer line is split, and its parts say that they go on.
pub const LINE_MAX: usize = 8192;

/// Priority of a line that states none: information.
const DEFAULT_PRIORITY: u8 = 6;

/// A stream that is being cut into lines.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    /// A line whose end has not come yet.
    open: Vec<u8>,
    /// What stands behind all that a run has printed, where init tells runs apart.
    mark: Option<Rc<str>>,
    /// Priority of the line of which parts have been written already.
    split: Option<u8>,
    /// The beginning of the last record, and what it was made from: under a flood it is the next one's too.
    prefix: (Times, bool, u8, String),
}

impl Lines {
    /// A stream of which nothing has been read.
    pub fn new(stream: Stream, mark: Option<Rc<str>>) -> Self {
        let never = Times {
            boot_us: u64::MAX,
            wall_ms: 0,
        };
        Self {
            stream,
            open: Vec::new(),
            mark,
            split: None,
            prefix: (never, false, 0, String::new()),
        }
    }

    /// Takes in what was read, and gives each finished record to `put`, as its beginning and its text.
    pub fn feed(&mut self, bytes: &[u8], times: Times, put: &mut impl FnMut(&[u8], &[u8])) {
        let mut start: usize = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = bytes.get(start..end).unwrap_or_default();
            self.line(line, times, put);
            start = end.saturating_add(1);
        }
        self.part(bytes.get(start..).unwrap_or_default(), times, put);
    }

    /// Gives what is left without a line break to `put`: nothing more will come.
    pub fn finish(&mut self, times: Times, put: &mut impl FnMut(&[u8], &[u8])) {
        if !self.open.is_empty() {
            self.line(&[], times, put);
        }
    }

    /// A line that ends here, or a run that does.
    fn line(&mut self, end: &[u8], times: Times, put: &mut impl FnMut(&[u8], &[u8])) {
        if self.open.is_empty() && end.len() <= LINE_MAX {
            self.last_part(end, times, put);
        } else {
            self.part(end, times, put);
            let open = std::mem::take(&mut self.open);
            self.last_part(&open, times, put);
        }
        self.split = None;
    }

    fn last_part(&mut self, text: &[u8], times: Times, put: &mut impl FnMut(&[u8], &[u8])) {
        let mark = self.mark.as_deref().unwrap_or("\n"); // which no line holds
        let unmarked = text.strip_suffix(mark.as_bytes());
        if unmarked.is_some_and(<[u8]>::is_empty) && self.split.is_none() {
            return;
        }
        let mut rest = unmarked.unwrap_or(text);
        if rest.len() > LINE_MAX {
            // Room was kept for a mark that did not come.
            let (first, more) = rest.split_at(LINE_MAX);
            self.put(first, true, times, put);
            rest = more;
        }
        self.put(rest, false, times, put);
    }

    /// A piece of a line that goes on; as much as a mark takes is kept back, lest it be split.
    fn part(&mut self, piece: &[u8], times: Times, put: &mut impl FnMut(&[u8], &[u8])) {
        let most = LINE_MAX.saturating_add(self.mark.as_ref().map_or(0, |mark| mark.len()));
        let mut rest = piece;
        loop {
            let room = most.saturating_sub(self.open.len());
            if rest.len() <= room {
                self.open.extend_from_slice(rest);
                return;
            }
            let (now, later) = rest.split_at(room);
            self.open.extend_from_slice(now);
            let kept = self.open.split_off(LINE_MAX);
            let open = std::mem::replace(&mut self.open, kept);
            self.put(&open, true, times, put);
            rest = later;
        }
    }

    fn put(
        &mut self,
        text: &[u8],
        continues: bool,
        times: Times,
        put: &mut impl FnMut(&[u8], &[u8]),
    ) {
        let (priority, text) = match self.split {
            Some(priority) => (priority, text),
            None => priority_of(text),
        };
        if continues {
            self.split = Some(priority);
        }
        let (made_at, made_open, made_priority, beginning) = &mut self.prefix;
        if (*made_at, *made_open, *made_priority) != (times, continues, priority) {
            *beginning = prefix(times, self.stream, continues, priority);
            (*made_at, *made_open, *made_priority) = (times, continues, priority);
        }
        put(beginning.as_bytes(), text);
    }
}

/// The priority that a line states (`<3>text`, `sd-daemon(3)`), and the line without it.
fn priority_of(line: &[u8]) -> (u8, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', text @ ..] => (digit - b'0', text),
        _ => (DEFAULT_PRIORITY, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        boot_us: 1_000_000,
        wall_ms: 0,
    };
    const PREFIX: &str = "1.000000 1970-01-01T00:00:00.000Z ";

    fn records(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new(Stream::Out, Some("[end]".into()));
        let mut records = Vec::new();
        let mut put = |beginning: &[u8], text: &[u8]| {
            records.push(String::from_utf8_lossy(&[beginning, text].concat()).into_owned());
        };
        for chunk in chunks {
            lines.feed(chunk, TIMES, &mut put);
        }
        lines.finish(TIMES, &mut put);
        records
    }

    #[track_caller]
    fn check(chunks: &[&[u8]], want: &[&str]) {
        let want: Vec<String> = want.iter().map(|line| format!("{PREFIX}{line}")).collect();
        assert_eq!(records(chunks), want);
    }

    #[test]
    fn lines_are_put_together_and_taken_apart() {
        check(&[b"a\nb\n"], &["out 6 a", "out 6 b"]);
        check(&[b"a", b"b", b"\n\nc"], &["out 6 ab", "out 6 ", "out 6 c"]);
        check(&[b""], &[]);
    }

    #[test]
    fn runs_stay_apart_though_the_last_line_has_no_end() {
        check(
            &[b"a[end]\nb\n[end]\n[end]\nc"],
            &["out 6 a", "out 6 b", "out 6 c"],
        );
        check(&[b"<3>a[e", b"nd", b"]\n\n[end]\n"], &["out 3 a", "out 6 "]);
        check(&[b"[end] \n"], &["out 6 [end] "]);
        // Wherever a long line is split, the mark is not.
        for length in LINE_MAX - 6..LINE_MAX + 7 {
            let text = "x".repeat(length);
            let got = records(&[text.as_bytes(), b"[end]\nnext\n"]);
            let parts: Vec<&str> = got.iter().map(|record| &record[PREFIX.len()..]).collect();
            let whole = match text.split_at_checked(LINE_MAX) {
                Some((first, more)) if !more.is_empty() => {
                    vec![format!("out+ 6 {first}"), format!("out 6 {more}")]
                }
                _ => vec![format!("out 6 {text}")],
            };
            assert_eq!(
                parts,
                [whole, vec!["out 6 next".to_owned()]].concat(),
                "{length}"
            );
        }
    }

    #[test]
    fn a_stated_priority_is_taken_off() {
        check(
            &[b"<3>bad\n<8>no\n<3bad\n"],
            &["out 3 bad", "out 6 <8>no", "out 6 <3bad"],
        );
        check(&[b"<", b"7>debug\n"], &["out 7 debug"]);
    }

    #[test]
    fn a_long_line_is_split_and_says_so_and_keeps_its_priority() {
        let text = "x".repeat(LINE_MAX * 2);
        let line = format!("<2>{text}\n");
        let got = records(&[line.as_bytes()]);
        let starts: Vec<_> = got
            .iter()
            .map(|record| record[PREFIX.len()..].split('x').next().unwrap())
            .collect();
        assert_eq!(starts, ["out+ 2 ", "out+ 2 ", "out 2 "]);
        let kept: usize = got.iter().map(|record| record.matches('x').count()).sum();
        assert_eq!(kept, LINE_MAX * 2);
    }

    #[test]
    fn what_is_kept_back_is_bounded() {
        let mut lines = Lines::new(Stream::Err, None);
        for _ in 0..100 {
            lines.feed(&[b'x'; 4096], TIMES, &mut |_, _| {});
            assert!(lines.open.len() <= LINE_MAX);
        }
    }

    #[test]
    fn binary_output_is_kept_byte_for_byte() {
        let mut lines = Lines::new(Stream::Out, None);
        let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let mut got = Vec::new();
        lines.feed(&bytes, TIMES, &mut |_, text| got.extend_from_slice(text));
        lines.feed(b"\n", TIMES, &mut |_, text| got.extend_from_slice(text));
        assert_eq!(got, bytes);
    }
}
