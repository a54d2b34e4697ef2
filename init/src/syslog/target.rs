//! Where to forward to: `HOST:PORT` as gokrazy writes it, or with `udp://` or `tcp://` before it; pure.

use std::fmt;
use std::str::FromStr;

/// Port of syslog over UDP (RFC 5426 §3.3), customary over TCP.
const DEFAULT_PORT: u16 = 514;

/// Longest name of a host (RFC 1035 §2.3.4).
const HOST_MAX: usize = 255;

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A datagram each.
    Udp,
    /// A stream with octet counts.
    Tcp,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that names no collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTarget(String);

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} names no collector: write HOST, HOST:PORT, udp://HOST:PORT or tcp://HOST:PORT, an IPv6 address in \
             brackets",
            self.0
        )
    }
}

impl std::error::Error for NoTarget {}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        parse(text).ok_or_else(|| NoTarget(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Target> {
    let (protocol, rest) = match text.split_once("://") {
        None => (Protocol::Udp, text),
        Some(("udp", rest)) => (Protocol::Udp, rest),
        Some(("tcp", rest)) => (Protocol::Tcp, rest),
        Some(_) => return None,
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            host.contains(':').then_some(())?;
            (host, port_behind(behind)?)
        }
        None => match rest.split_once(':') {
            None => (rest, DEFAULT_PORT),
            Some((host, port)) => (host, number(port)?),
        },
    };
    let sane = |byte: u8| byte.is_ascii_graphic() && !b"/[]@".contains(&byte);
    let is_host = !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(sane);
    is_host.then(|| Target {
        protocol,
        host: host.to_owned(),
        port,
    })
}

fn port_behind(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(DEFAULT_PORT);
    }
    number(text.strip_prefix(':')?)
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
        };
        if self.host.contains(':') {
            write!(f, "{protocol}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{protocol}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_people_write_them() {
        for (text, want) in [
            ("10.0.0.1:1514", "udp://10.0.0.1:1514"),
            ("logs.example.org", "udp://logs.example.org:514"),
            ("udp://logs", "udp://logs:514"),
            ("tcp://logs:601", "tcp://logs:601"),
            ("tcp://[2001:db8::1]:601", "tcp://[2001:db8::1]:601"),
            ("[fe80::1%eth0]", "udp://[fe80::1%eth0]:514"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), want, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":514",
            "tls://logs:6514",
            "logs:",
            "logs:0",
            "logs:70000",
            "logs:514:1",
            "2001:db8::1",
            "[2001:db8::1",
            "[logs]:514",
            "[::1]x",
            "a b",
            "user@logs",
            "logs/x",
            "tcp://",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert!("x".repeat(256).parse::<Target>().is_err());
    }
}
