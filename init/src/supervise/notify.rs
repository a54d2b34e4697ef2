//! What a service says of itself in a datagram (`sd_notify(3)`); pure.

use std::time::Duration;

/// Longest datagram that is read, in bytes.
pub const MAX_DATAGRAM: usize = 4096;

/// Longest `STATUS=` that is kept, in bytes.
const STATUS_MAX: usize = 256;

/// One assignment of a datagram that we heed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is ready.
    Ready,
    /// It reads its configuration anew; `Ready` follows.
    Reloading,
    /// It is about to end.
    Stopping,
    /// It lives.
    Watchdog,
    /// It asks to be treated as hung.
    WatchdogTrigger,
    /// A line for people.
    Status(String),
    /// It needs more time for what it is doing.
    ExtendTimeout(Duration),
}

/// Reads a datagram; what is not understood is passed over, whatever it is.
pub fn parse(datagram: &[u8]) -> Vec<Notice> {
    let text = String::from_utf8_lossy(datagram);
    text.split('\n').filter_map(notice).collect()
}

fn notice(line: &str) -> Option<Notice> {
    let (key, value) = line.split_once('=')?;
    match (key, value) {
        ("READY", "1") => Some(Notice::Ready),
        ("RELOADING", "1") => Some(Notice::Reloading),
        ("STOPPING", "1") => Some(Notice::Stopping),
        ("WATCHDOG", "1") => Some(Notice::Watchdog),
        ("WATCHDOG", "trigger") => Some(Notice::WatchdogTrigger),
        ("STATUS", text) => Some(Notice::Status(shortened(text))),
        ("EXTEND_TIMEOUT_USEC", number) => {
            let microseconds = number.parse().ok()?;
            Some(Notice::ExtendTimeout(Duration::from_micros(microseconds)))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(STATUS_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_read_and_others_passed_over() {
        let got = parse(b"READY=1\nMAINPID=7\nSTATUS=serving\n\nWATCHDOG=1");
        let status = Notice::Status("serving".to_owned());
        assert_eq!(got, [Notice::Ready, status, Notice::Watchdog]);
        let got = parse(b"EXTEND_TIMEOUT_USEC=1500000\n");
        assert_eq!(got, [Notice::ExtendTimeout(Duration::from_millis(1500))]);
    }

    #[test]
    fn rubbish_is_nothing() {
        for datagram in [
            &b""[..],
            b"\n\n",
            b"READY",
            b"READY=2",
            b"=",
            b"\xff\xfe=\0",
            b"EXTEND_TIMEOUT_USEC=-1",
        ] {
            assert_eq!(parse(datagram), [], "{datagram:?}");
        }
    }

    #[test]
    fn a_long_status_is_cut_at_a_character() {
        let text = format!("STATUS={}", "ä".repeat(1000));
        let notices = parse(text.as_bytes());
        let [Notice::Status(status)] = notices.as_slice() else {
            panic!("{notices:?}")
        };
        assert_eq!(status.len(), STATUS_MAX);
    }
}
