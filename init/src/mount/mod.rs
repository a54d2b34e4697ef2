//! Disks that `[[mount]]` tables name: what is to be mounted where, and when it is tried; pure but for [`child`].
//!
//! | module | what |
//! |---|---|
//! | this one | what a table says |
//! | [`options`] | mount options as people write them |
//! | [`disk`] | one disk's life: absent, tried, mounted, gone |
//! | [`points`] | what is mounted where |
//! | `place` | mount points, reached through no link |
//! | [`child`] | looks for the disk and mounts it, in a process of its own |
//!
//! Until its disk is there, a mount point is *guarded*: an empty, read-only, closed file system lies on it, so that
//! nothing is written underneath.

pub mod child;
pub mod disk;
pub mod options;
mod place;
pub mod points;

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use gokrazy_core::paths;

use self::options::Options;

/// What a guard calls itself in the table of mounts.
pub const GUARD: &str = "gokrazy-guard";

/// How a disk is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Its partition's identifier: that of a GPT, or `<signature>-<number>` of an MBR.
    PartUuid(String),
    /// The identifier of its file system.
    Uuid(String),
    /// The label of its file system.
    Label(String),
    /// Its device node.
    Device(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartUuid(id) => write!(f, "PARTUUID={id}"),
            Self::Uuid(id) => write!(f, "UUID={id}"),
            Self::Label(label) => write!(f, "LABEL={label}"),
            Self::Device(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("PARTUUID", id)) if !id.is_empty() => Ok(Self::PartUuid(id.to_ascii_lowercase())),
            Some(("UUID", id)) if !id.is_empty() => Ok(Self::Uuid(id.to_owned())),
            Some(("LABEL", label)) if !label.is_empty() => Ok(Self::Label(label.to_owned())),
            _ if Path::new(text).starts_with(paths::DEV) => Ok(Self::Device(text.into())),
            _ => Err(format!(
                "`{text}` names no disk: use PARTUUID=…, UUID=…, LABEL=… or a path below /dev"
            )),
        }
    }
}

/// One `[[mount]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which disk.
    pub source: Source,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The type of its file system; what its superblock says if absent.
    pub kind: Option<String>,
    /// How it is mounted.
    pub options: Options,
}

/// A place where a disk can be mounted: below `/mnt` or `/perm`, or anywhere that the system does not need.
///
/// # Errors
/// What is wrong with it, for people.
pub fn target(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let mut parts = path.components();
    let plain = parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !text.ends_with('/');
    let first = path
        .components()
        .nth(1)
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    let system = [
        "bin", "dev", "etc", "gokrazy", "lib", "proc", "run", "sys", "tmp", "user", "var",
    ];
    match first {
        Some(first)
            if plain
                && !system.contains(&first.as_str())
                && ![paths::PERM, "/mnt", "/boot"].contains(&text) =>
        {
            Ok(path.to_owned())
        }
        _ => Err(format!(
            "nothing can be mounted at `{text}`: use a path such as /mnt/disk"
        )),
    }
}

/// Whether one of two places lies in the other, or is it.
pub fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_round_trip_and_others_are_refused() {
        for text in [
            "PARTUUID=60c24cc1-f3f9-427a-8199-dd02",
            "UUID=1A2B-3C4D",
            "LABEL=my disk",
            "/dev/sda1",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for text in ["", "sda1", "/mnt/x", "LABEL=", "NAME=x", "label=x"] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_target_is_no_place_that_the_system_needs() {
        for text in ["/mnt/disk", "/perm/media", "/data", "/mnt/a/b"] {
            assert_eq!(target(text), Ok(text.into()));
        }
        for text in [
            "",
            "/",
            "mnt",
            "/mnt",
            "/mnt/",
            "/mnt/../etc",
            "/etc/x",
            "/perm",
            "/run/x",
            "/mnt/disk/",
        ] {
            assert!(target(text).is_err(), "{text:?}");
        }
        assert!(overlap(Path::new("/mnt/a"), Path::new("/mnt/a/b")));
        assert!(!overlap(Path::new("/mnt/a"), Path::new("/mnt/ab")));
    }
}
