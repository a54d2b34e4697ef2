//! Records of a log to what a client reads; pure.

use gokrazy_core::log_record::{Record, Stream};

use crate::logd::reader::Place;

/// How a client wants to read a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The lines as they were printed, byte for byte.
    Text,
    /// Whole records, with times and priorities.
    Records,
    /// Server-sent events (HTML standard, section 9.2).
    Events,
    /// Server-sent events that tell the stream by their name.
    NamedEvents,
}

/// Longest line that is put together of several records, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Puts records into words.
#[derive(Debug)]
pub struct Writer {
    style: Style,
    /// What tells this boot's events from others'.
    boot: String,
    /// Beginnings of lines that go on in the next record: of standard output, and of the others.
    open: [Vec<u8>; 2],
}

impl Writer {
    /// A writer in this style; a log that lives in memory begins anew at each boot, so events' ids name the boot.
    pub fn new(style: Style, boot: String) -> Self {
        Self {
            style,
            boot,
            open: [Vec::new(), Vec::new()],
        }
    }

    /// Appends to `out` what the client reads of a record; `next` is where the log goes on behind it.
    pub fn put(&mut self, line: &[u8], next: Place, out: &mut Vec<u8>) {
        let Some(record) = Record::parse(line) else {
            return;
        };
        match self.style {
            Style::Records => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            Style::Text => {
                out.extend_from_slice(record.text);
                if !record.continues {
                    out.push(b'\n');
                }
            }
            Style::Events | Style::NamedEvents => self.event(&record, next, out),
        }
    }

    fn event(&mut self, record: &Record<'_>, next: Place, out: &mut Vec<u8>) {
        let [of_out, of_err] = &mut self.open;
        let (open, name) = match record.stream {
            Stream::Out => (of_out, "stdout"),
            Stream::Err | Stream::Kernel => (of_err, "stderr"),
        };
        open.extend_from_slice(record.text);
        if record.continues && open.len() < MAX_LINE {
            return;
        }
        let text = String::from_utf8_lossy(open);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        // A carriage return would end the field, and what follows could pass for another one.
        let text = text.replace('\r', "\u{240d}");
        if self.style == Style::NamedEvents {
            out.extend_from_slice(format!("event: {name}\n").as_bytes());
        }
        out.extend_from_slice(format!("id: {next}-{}\ndata: {text}\n\n", self.boot).as_bytes());
        open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: &str = "1.000000 2026-11-25T16:15:05.123Z";

    #[track_caller]
    fn check(style: Style, records: &[&str], expected: &str) {
        let mut writer = Writer::new(style, "boot".to_owned());
        let mut out = Vec::new();
        for record in records {
            let line = format!("{TIMES} {record}");
            writer.put(line.as_bytes(), Place::START, &mut out);
        }
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn text_is_what_was_printed() {
        check(
            Style::Text,
            &["out 6 a", "err 3 b\r", "out+ 6 c", "out 6 d"],
            "a\nb\r\ncd\n",
        );
        check(Style::Records, &["out 6 a"], &format!("{TIMES} out 6 a\n"));
    }

    #[test]
    fn events_name_their_stream_if_there_are_two() {
        check(Style::Events, &["out 6 a"], "id: 0-0-boot\ndata: a\n\n");
        let both =
            "event: stdout\nid: 0-0-boot\ndata: a\n\nevent: stderr\nid: 0-0-boot\ndata: b\n\n";
        check(Style::NamedEvents, &["out 6 a", "err 6 b"], both);
    }

    #[test]
    fn a_program_cannot_forge_an_event() {
        check(
            Style::Events,
            &["out 6 a\revent: evil\r"],
            "id: 0-0-boot\ndata: a\u{240d}event: evil\n\n",
        );
    }

    #[test]
    fn parts_of_a_long_line_come_together_even_if_streams_alternate() {
        let records = ["out+ 6 a", "err 6 x", "out 6 b"];
        let expected =
            "event: stderr\nid: 0-0-boot\ndata: x\n\nevent: stdout\nid: 0-0-boot\ndata: ab\n\n";
        check(Style::NamedEvents, &records, expected);
    }

    #[test]
    fn garbage_is_passed_over() {
        let mut out = Vec::new();
        Writer::new(Style::Records, String::new()).put(b"\xff\xfe garbage", Place::START, &mut out);
        assert_eq!(out, b"");
    }
}
