//! What a service can wait for before a start; pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The clock is synchronised, by our ntp or by the kernel's own account.
    Clock,
    /// There is a default route.
    NetRoute,
    /// A name can be resolved.
    NetOnline,
    /// Something is mounted there.
    Mount(PathBuf),
    /// That service is ready, or finished with exit status 0.
    Service(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock => f.write_str("clock"),
            Self::NetRoute => f.write_str("net-route"),
            Self::NetOnline => f.write_str("net-online"),
            Self::Mount(path) => write!(f, "mount:{}", path.display()),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "clock" => return Ok(Self::Clock),
            "net-route" => return Ok(Self::NetRoute),
            "net-online" => return Ok(Self::NetOnline),
            _ => {}
        }
        match text.split_once(':') {
            Some(("mount", path)) if path.starts_with('/') => Ok(Self::Mount(path.into())),
            Some(("mount", path)) => Err(format!("`{path}` is no absolute path")),
            Some(("service", name)) if super::is_name(name) => Ok(Self::Service(name.to_owned())),
            Some(("service", name)) => Err(format!("`{name}` is no service's name")),
            Some(_) | None => Err(format!(
                "unknown condition `{text}`: use clock, net-route, net-online, mount:/PATH or service:NAME"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_round_trip_and_others_are_named() {
        for text in [
            "clock",
            "net-route",
            "net-online",
            "mount:/mnt/disk",
            "service:db",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        for text in ["", "moon", "mount:disk", "service:", "service:a/b"] {
            assert!(text.parse::<Condition>().is_err(), "{text:?}");
        }
    }
}
