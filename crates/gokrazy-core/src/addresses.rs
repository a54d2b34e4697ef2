//! The addresses of this machine, and its cables, as init publishes them under `<run-dir>/addresses`; pure.
//!
//! Web listens on the private ones and shows both; it is woken by the file being replaced.

use crate::keyvalue::{Document, ParseError};

/// Interface addresses, IPv6 link-local ones with their zone (`fe80::1%eth0`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Loopback, RFC 1918, unique local, link-local and RFC 6598 addresses.
    pub private: Vec<String>,
    /// All others.
    pub public: Vec<String>,
    /// Wired interfaces that are set up and have no carrier.
    pub no_carrier: Vec<String>,
}

impl Addresses {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        Ok(Self {
            private: document.list_as("private")?,
            public: document.list_as("public")?,
            no_carrier: document.list_as("no_carrier")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        Document::new()
            .set_list("private", &self.private)
            .set_list("public", &self.public)
            .set_list("no_carrier", &self.no_carrier)
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        let addresses = Addresses {
            private: vec!["127.0.0.1".to_owned(), "fe80::1%eth0".to_owned()],
            public: vec!["2001:db8::1".to_owned()],
            no_carrier: vec!["eth1".to_owned()],
        };
        let text = "private='127.0.0.1 fe80::1%eth0'\npublic=2001:db8::1\nno_carrier=eth1\n";
        assert_eq!(addresses.render(), text);
        assert_eq!(Addresses::parse(text), Ok(addresses));
        assert_eq!(Addresses::parse(""), Ok(Addresses::default()));
    }
}
