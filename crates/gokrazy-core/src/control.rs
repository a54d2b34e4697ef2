//! Requests to init and its replies, one datagram each on `<run-dir>/control.sock` (SEQPACKET); pure.
//!
//! A datagram is a [`Document`]; a list is a count and numbered keys, since an argument may hold blanks.
//! Status needs no request: it stands in files ([`crate::service_status`]).

use std::fmt;

use crate::keyvalue::{Document, ParseError};

/// Longest datagram, in bytes; a longer one is refused.
pub const MAX_DATAGRAM: usize = 16 * 1024;

/// Most arguments that a request may carry.
const MAX_ARGUMENTS: usize = 256;

/// What a client asks of init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a stopped service.
    Start {
        /// The service.
        name: String,
    },
    /// Stop a service and everything it started.
    Stop {
        /// The service.
        name: String,
    },
    /// Stop a service if it runs, then start it.
    Restart {
        /// The service.
        name: String,
    },
    /// Send a signal to a service's main process.
    Signal {
        /// The service.
        name: String,
        /// Name of the signal without `SIG`, or its number.
        signal: String,
    },
    /// Run another program in a service's place until the next boot.
    Divert {
        /// The service; made if there is none of that name.
        name: String,
        /// The program's path.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Stop all services and end the machine's run.
    End {
        /// How.
        how: End,
    },
}

/// How the machine's run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Start anew.
    Reboot,
    /// Switch the power off.
    PowerOff,
    /// Stop, with the power left on.
    Halt,
}

impl End {
    /// The word in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
            Self::Halt => "halt",
        }
    }
}

/// Init's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done, or under way.
    Done,
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a request was turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No service has that name.
    NoSuchService,
    /// The peer's user may not ask for this.
    NotPermitted,
    /// The machine is going down.
    ShuttingDown,
    /// The datagram is no request; the text says why.
    Malformed(String),
    /// It was tried and did not work; the text says why.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchService => f.write_str("no such service"),
            Self::NotPermitted => f.write_str("not permitted"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Malformed(why) => write!(f, "malformed request: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

impl Request {
    /// Reads a datagram.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let name = || document.required("name").map(str::to_owned);
        let word = document.required("request")?;
        match word {
            "start" => Ok(Self::Start { name: name()? }),
            "stop" => Ok(Self::Stop { name: name()? }),
            "restart" => Ok(Self::Restart { name: name()? }),
            "signal" => Ok(Self::Signal {
                name: name()?,
                signal: document.required("signal")?.to_owned(),
            }),
            "divert" => Ok(Self::Divert {
                name: name()?,
                program: document.required("program")?.to_owned(),
                arguments: arguments(&document)?,
            }),
            _ => match [End::Reboot, End::PowerOff, End::Halt]
                .into_iter()
                .find(|how| how.as_str() == word)
            {
                Some(how) => Ok(Self::End { how }),
                None => Err(ParseError::Invalid {
                    key: "request",
                    value: word.to_owned(),
                }),
            },
        }
    }

    /// The datagram's text.
    pub fn render(&self) -> String {
        let mut document = Document::new();
        match self {
            Self::Start { name } => document.set("request", "start").set("name", name),
            Self::Stop { name } => document.set("request", "stop").set("name", name),
            Self::Restart { name } => document.set("request", "restart").set("name", name),
            Self::Signal { name, signal } => document
                .set("request", "signal")
                .set("name", name)
                .set("signal", signal),
            Self::Divert {
                name,
                program,
                arguments,
            } => {
                document
                    .set("request", "divert")
                    .set("name", name)
                    .set("program", program);
                document.set("arguments", arguments.len());
                for (index, argument) in arguments.iter().enumerate() {
                    document.set(&format!("argument_{index}"), argument);
                }
                &mut document
            }
            Self::End { how } => document.set("request", how.as_str()),
        };
        document.render()
    }
}

fn arguments(document: &Document) -> Result<Vec<String>, ParseError> {
    let count: usize = document.optional_as("arguments")?.unwrap_or(0);
    if count > MAX_ARGUMENTS {
        return Err(ParseError::Invalid {
            key: "arguments",
            value: count.to_string(),
        });
    }
    (0..count)
        .map(|index| {
            document
                .get(&format!("argument_{index}"))
                .map(str::to_owned)
        })
        .collect::<Option<_>>()
        .ok_or(ParseError::Missing {
            key: "argument_<n>",
        })
}

impl Reply {
    /// Reads a datagram.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let why = || document.get("why").unwrap_or_default().to_owned();
        match document.required("result")? {
            "done" => Ok(Self::Done),
            "no-such-service" => Ok(Self::Refused(Refusal::NoSuchService)),
            "not-permitted" => Ok(Self::Refused(Refusal::NotPermitted)),
            "shutting-down" => Ok(Self::Refused(Refusal::ShuttingDown)),
            "malformed" => Ok(Self::Refused(Refusal::Malformed(why()))),
            "failed" => Ok(Self::Refused(Refusal::Failed(why()))),
            other => Err(ParseError::Invalid {
                key: "result",
                value: other.to_owned(),
            }),
        }
    }

    /// The datagram's text.
    pub fn render(&self) -> String {
        let (result, why) = match self {
            Self::Done => ("done", None),
            Self::Refused(Refusal::NoSuchService) => ("no-such-service", None),
            Self::Refused(Refusal::NotPermitted) => ("not-permitted", None),
            Self::Refused(Refusal::ShuttingDown) => ("shutting-down", None),
            Self::Refused(Refusal::Malformed(why)) => ("malformed", Some(why)),
            Self::Refused(Refusal::Failed(why)) => ("failed", Some(why)),
        };
        Document::new()
            .set("result", result)
            .set_some("why", why)
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let name = || "web-shop".to_owned();
        let requests = [
            Request::Start { name: name() },
            Request::Stop { name: name() },
            Request::Restart { name: name() },
            Request::Signal {
                name: name(),
                signal: "HUP".to_owned(),
            },
            Request::Divert {
                name: name(),
                program: "/tmp/gok-run/shop".to_owned(),
                arguments: vec!["--title".to_owned(), "it's open".to_owned(), String::new()],
            },
            Request::End { how: End::PowerOff },
        ];
        for request in requests {
            assert_eq!(Request::parse(&request.render()), Ok(request));
        }
    }

    #[test]
    fn replies_round_trip() {
        for refusal in [
            Refusal::NoSuchService,
            Refusal::NotPermitted,
            Refusal::ShuttingDown,
            Refusal::Malformed("line 1: not a `key=value` line".to_owned()),
            Refusal::Failed("fork: Resource temporarily unavailable".to_owned()),
        ] {
            let reply = Reply::Refused(refusal);
            assert_eq!(Reply::parse(&reply.render()), Ok(reply));
        }
        assert_eq!(Reply::parse(&Reply::Done.render()), Ok(Reply::Done));
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let invalid = |key, value: &str| {
            Err(ParseError::Invalid {
                key,
                value: value.to_owned(),
            })
        };
        assert_eq!(
            Request::parse("request=explode\n"),
            invalid("request", "explode")
        );
        assert_eq!(
            Request::parse("request=start\n"),
            Err(ParseError::Missing { key: "name" })
        );
        let many = "request=divert\nname=x\nprogram=/x\narguments=99999999999\n";
        assert_eq!(Request::parse(many), invalid("arguments", "99999999999"));
        let few = "request=divert\nname=x\nprogram=/x\narguments=1\n";
        assert_eq!(
            Request::parse(few),
            Err(ParseError::Missing {
                key: "argument_<n>"
            })
        );
    }
}
