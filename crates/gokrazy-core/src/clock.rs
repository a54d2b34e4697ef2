//! The state of the clock, as ntp publishes it under `<run-dir>/clock`; pure.
//!
//! The file's absence means that nobody vouches for the clock in this boot.

use crate::keyvalue::{Document, ParseError};

/// What a daemon that steers the clock says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClockState {
    /// Whether a majority of servers agreed on the time in this boot, and still holds.
    pub synchronised: bool,
    /// Unix time in seconds at which the clock became synchronised; absent while it is not.
    pub since: Option<i64>,
    /// The clock's last measured offset from the servers, in nanoseconds; positive: our clock is behind.
    pub offset_ns: Option<i64>,
    /// Bound of the clock's error at the last update, in nanoseconds.
    pub error_bound_ns: Option<u64>,
    /// The server that the clock follows, as address and port.
    pub source: Option<String>,
    /// Stratum of that server (1 to 15).
    pub stratum: Option<u8>,
    /// Unix time in seconds of the last measurement that the numbers above come from.
    pub updated: Option<i64>,
    /// Frequency correction in force, in parts per 10⁹; positive: our oscillator is slow.
    pub frequency_ppb: Option<i64>,
    /// `insert` or `delete` while the servers announce a leap second; absent otherwise.
    pub leap: Option<String>,
    /// Unix time in seconds of the first synchronisation in this boot; it outlives the daemon and a loss of
    /// synchronisation.
    pub first_since: Option<i64>,
    /// The boot that `first_since` belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
}

impl ClockState {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let synchronised = match document.required("synchronised")? {
            "yes" => true,
            "no" => false,
            other => {
                return Err(ParseError::Invalid {
                    key: "synchronised",
                    value: other.to_owned(),
                });
            }
        };
        Ok(Self {
            synchronised,
            since: document.optional_as("since")?,
            offset_ns: document.optional_as("offset_ns")?,
            error_bound_ns: document.optional_as("error_bound_ns")?,
            source: document.optional_as("source")?,
            stratum: document.optional_as("stratum")?,
            updated: document.optional_as("updated")?,
            frequency_ppb: document.optional_as("frequency_ppb")?,
            leap: document.optional_as("leap")?,
            first_since: document.optional_as("first_since")?,
            boot_id: document.optional_as("boot_id")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        Document::new()
            .set("synchronised", if self.synchronised { "yes" } else { "no" })
            .set_some("since", self.since)
            .set_some("offset_ns", self.offset_ns)
            .set_some("error_bound_ns", self.error_bound_ns)
            .set_some("source", self.source.as_ref())
            .set_some("stratum", self.stratum)
            .set_some("updated", self.updated)
            .set_some("frequency_ppb", self.frequency_ppb)
            .set_some("leap", self.leap.as_ref())
            .set_some("first_since", self.first_since)
            .set_some("boot_id", self.boot_id.as_ref())
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        let state = ClockState {
            synchronised: true,
            since: Some(1_790_000_000),
            offset_ns: Some(-1_500),
            error_bound_ns: Some(2_000_000),
            source: Some("192.0.2.1:123".to_owned()),
            stratum: Some(2),
            updated: Some(1_790_000_064),
            frequency_ppb: Some(-12_345),
            leap: Some("insert".to_owned()),
            first_since: Some(1_789_999_000),
            boot_id: Some("6e1a".to_owned()),
        };
        let text = "synchronised=yes\nsince=1790000000\noffset_ns=-1500\nerror_bound_ns=2000000\n\
                    source=192.0.2.1:123\nstratum=2\nupdated=1790000064\nfrequency_ppb=-12345\nleap=insert\n\
                    first_since=1789999000\nboot_id=6e1a\n";
        assert_eq!(state.render(), text);
        assert_eq!(ClockState::parse(text), Ok(state));
    }

    #[test]
    fn not_synchronised_needs_no_more() {
        assert_eq!(
            ClockState::parse("synchronised=no\n"),
            Ok(ClockState::default())
        );
        assert_eq!(
            ClockState::parse(""),
            Err(ParseError::Missing {
                key: "synchronised"
            })
        );
    }
}
