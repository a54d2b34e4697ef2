//! A record of a log as messages of RFC 5424; pure.
//!
//! `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [meta …] TEXT`: the application is the service, the message id the
//! stream, `sequenceId` counts from 1 so that a collector sees what a network lost, and `sysUpTime` is the boot clock
//! (RFC 5424 §7.3).
//! The process's number is not known to who reads logs, and is the nil value.
//! No text from outside gets into structured data, so nothing there needs escaping.

use std::io::Write;

use gokrazy_core::log_record::{Record, Stream};

/// Numerical codes of facilities (RFC 5424 §6.2.1): messages of the kernel, of system daemons.
const KERNEL: u8 = 0;
const DAEMON: u8 = 3;

/// Longest host name and longest application name (RFC 5424 §6).
const HOST_MAX: usize = 255;
const APPLICATION_MAX: usize = 48;

/// Before UTF-8 that is more than ASCII (RFC 5424 §6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Largest sequence number; 1 follows (RFC 5424 §7.3.1).
const SEQUENCE_MAX: u32 = i32::MAX as u32;

/// A nil value.
const NIL: &str = "-";

/// Makes messages, numbered.
#[derive(Debug)]
pub struct Writer {
    host: String,
    longest: usize,
    sequence: u32,
    message: Vec<u8>,
}

impl Writer {
    /// A writer for the machine named `host`, of messages of at most `longest` bytes each.
    pub fn new(host: &str, longest: usize) -> Self {
        Self {
            host: name(host, HOST_MAX),
            longest,
            sequence: 0,
            message: Vec::new(),
        }
    }

    /// Gives `record` of the service `application` to `send` as one message, or as several if it is too long for one.
    ///
    /// # Errors
    /// The first error of `send`; what follows is not sent.
    pub fn write<E>(
        &mut self,
        application: &str,
        record: &Record<'_>,
        mut send: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = record.text;
        loop {
            self.head(application, record);
            let (part, later) = self.split(rest);
            self.text(part);
            send(&self.message)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn head(&mut self, application: &str, record: &Record<'_>) {
        self.sequence = self.sequence % SEQUENCE_MAX + 1;
        let facility = match record.stream {
            Stream::Kernel => KERNEL,
            Stream::Out | Stream::Err => DAEMON,
        };
        self.message.clear();
        // A vector takes all that is written to it.
        let _ = write!(
            self.message,
            "<{}>1 {} {} {} {NIL} {} [meta sequenceId=\"{}\" sysUpTime=\"{}\"] ",
            facility * 8 + record.priority.min(7),
            timestamp(record.wall),
            self.host,
            name(application, APPLICATION_MAX),
            record.stream.as_str(),
            self.sequence,
            hundredths(record.boot),
        );
    }

    /// What fits into the message, cut between characters where it is UTF-8.
    fn split<'a>(&self, text: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let used = self.message.len().saturating_add(BOM.len());
        // A head is much shorter than a message; if it were not, progress is made all the same.
        let room = self.longest.saturating_sub(used).max(BOM.len() + 1);
        if text.len() <= room {
            return (text, &[]);
        }
        let fits = match std::str::from_utf8(text) {
            Ok(text) => text.floor_char_boundary(room),
            Err(_) => room,
        };
        text.split_at(fits)
    }

    fn text(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(_) if text.is_ascii() || text.starts_with(BOM) => {}
            Ok(_) => self.message.extend_from_slice(BOM),
            // The mark would promise UTF-8.
            Err(_) if text.starts_with(BOM) => self.message.push(b' '),
            Err(_) => {}
        }
        self.message.extend_from_slice(text);
    }
}

/// Visible ASCII, at most `longest` bytes, the nil value if nothing is left (RFC 5424 §6, `PRINTUSASCII`).
fn name(text: &str, longest: usize) -> String {
    let visible = text.chars().filter(char::is_ascii_graphic);
    let name: String = visible.take(longest).collect();
    if name.is_empty() {
        NIL.to_owned()
    } else {
        name
    }
}

/// A record's time if it is one of RFC 3339 in UTC, as RFC 5424 §6.2.3 wants it.
fn timestamp(wall: &str) -> &str {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, want): (u8, u8)| match want {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    };
    let is_time = wall.len() == form.len() && wall.bytes().zip(form.bytes()).all(fits);
    if is_time { wall } else { NIL }
}

/// Seconds with a fraction as hundredths, which start anew at 2^32 (`TimeTicks`, RFC 2578 §7.1.8).
fn hundredths(boot: &str) -> u32 {
    let (seconds, fraction) = boot.split_once('.').unwrap_or((boot, ""));
    let seconds: u64 = seconds.parse().unwrap_or(0);
    let hundredths = fraction.get(..2).and_then(|digits| digits.parse().ok());
    let sum = seconds
        .wrapping_mul(100)
        .wrapping_add(hundredths.unwrap_or(0));
    u32::try_from(sum & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "12.345678 2026-11-25T16:15:05.123Z out 6 ";

    fn messages(writer: &mut Writer, line: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let record = Record::parse(line).unwrap();
        let done: Result<(), ()> = writer.write("web-shop", &record, |message| {
            all.push(message.to_vec());
            Ok(())
        });
        done.unwrap();
        all
    }

    #[track_caller]
    fn check(text: &[u8], want: &[u8]) {
        let mut writer = Writer::new("pi", 2048);
        let head =
            b"<30>1 2026-11-25T16:15:05.123Z pi web-shop - out [meta sequenceId=\"1\" sysUpTime=\"1234\"] ";
        let got = messages(&mut writer, &[LINE.as_bytes(), text].concat());
        assert_eq!(got, [[&head[..], want].concat()]);
    }

    #[test]
    fn a_line_becomes_a_message_and_its_bytes_stay() {
        check(b"listening on port 80", b"listening on port 80");
        check(b"", b"");
        check("grün".as_bytes(), "\u{feff}grün".as_bytes());
        check("\u{feff}grün".as_bytes(), "\u{feff}grün".as_bytes());
        check(b"\xff\x00\x80", b"\xff\x00\x80");
        check(b"\xef\xbb\xbf\xff", b" \xef\xbb\xbf\xff");
    }

    #[test]
    fn priority_and_stream_are_told() {
        for (line, want) in [
            (
                "0.0 x kernel 0 a",
                "<0>1 - - a - kernel [meta sequenceId=\"1\" sysUpTime=\"0\"] a",
            ),
            (
                "99999999.99 x err 3 a",
                "<27>1 - - a - err [meta sequenceId=\"1\" sysUpTime=\"1410065407\"] a",
            ),
            ("y 2026-11-25 16:15:05.123Z out 7 a", ""),
        ] {
            let Some(record) = Record::parse(line.as_bytes()) else {
                assert_eq!(want, "", "{line}");
                continue;
            };
            let mut got = Vec::new();
            let mut writer = Writer::new("\u{e4} \n", 480);
            let done: Result<(), ()> = writer.write("a", &record, |message| {
                got.extend_from_slice(message);
                Ok(())
            });
            done.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
    }

    #[test]
    fn what_is_too_long_comes_in_parts_and_none_is_longer_than_allowed() {
        for (text, unit) in [("x".repeat(5000), 1), ("ü".repeat(2500), 2)] {
            let mut writer = Writer::new(&"h".repeat(300), 600);
            let all = messages(&mut writer, [LINE, &text].concat().as_bytes());
            assert!(all.iter().all(|message| message.len() <= 600));
            let mut kept = String::new();
            for (number, message) in (1..).zip(&all) {
                let message = std::str::from_utf8(message).unwrap();
                let (head, text) = message.split_once("] ").unwrap();
                assert!(head.contains(&format!("sequenceId=\"{number}\"")), "{head}");
                assert_eq!(text.starts_with('\u{feff}'), unit == 2);
                kept.push_str(text.trim_start_matches('\u{feff}'));
            }
            assert_eq!(kept, text);
        }
    }

    #[test]
    fn sequence_numbers_start_anew_at_one() {
        let mut writer = Writer::new("pi", 2048);
        writer.sequence = SEQUENCE_MAX - 1;
        for want in [SEQUENCE_MAX, 1, 2] {
            messages(&mut writer, [LINE, "x"].concat().as_bytes());
            assert_eq!(writer.sequence, want);
        }
    }

    #[test]
    fn names_are_visible_ascii_and_bounded() {
        assert_eq!(name("web shop\u{e4}", 48), "webshop");
        assert_eq!(name(&"x".repeat(60), APPLICATION_MAX).len(), 48);
        assert_eq!(name("\n", 48), "-");
    }
}
