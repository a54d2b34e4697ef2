//! What can come of loading and saving, in words; pure.

use std::fmt;
use std::io;

use gokrazy_core::paths;

use crate::plan::Name;
use crate::store::StoreError;

/// Why a seed was mixed, or a new one saved, without credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncredited {
    /// The file's name says so.
    Marked,
    /// `--no-credit`.
    Asked,
    /// The pool is initialised: by hardware, firmware or an earlier seed.
    NotNeeded,
    /// No machine id.
    Nobody,
    /// Made by an image, another machine or another program, or damaged.
    Foreign,
    /// Somebody else may have planted the file, or kept a copy.
    Exposed,
    /// The kernel's refusal.
    Refused(io::ErrorKind),
    /// The new bytes come from a pool that is not initialised.
    Unready,
    /// `--once load`: a creditable seed is `save`'s to make.
    LoadOnly,
}

impl fmt::Display for Uncredited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marked => f.write_str("it is marked so"),
            Self::Asked => f.write_str("as --no-credit asks"),
            Self::NotNeeded => f.write_str("the kernel's pool is initialised already"),
            Self::Nobody => {
                f.write_str("there is no machine id to bind a seed to, see --machine-id")
            }
            Self::Foreign => f.write_str("this machine did not make it"),
            Self::Exposed => {
                f.write_str("it is another user's, writable for others, or has a second name")
            }
            Self::Refused(io::ErrorKind::PermissionDenied) => {
                f.write_str("crediting takes CAP_SYS_ADMIN")
            }
            Self::Refused(kind) => write!(f, "the kernel refuses the credit: {kind}"),
            Self::Unready => f.write_str("the kernel's pool is not initialised yet"),
            Self::LoadOnly => f.write_str("until a save replaces it"),
        }
    }
}

/// Something that happened and is worth a line.
#[derive(Debug)]
pub enum Event {
    /// A seed went into the pool.
    Mixed {
        /// Its file.
        name: Name,
        /// Its length in bytes.
        bytes: usize,
        /// Why it earned no credit, if so.
        uncredited: Option<Uncredited>,
    },
    /// A seed file held nothing, and was removed.
    Empty(Name),
    /// A new seed is on the disk.
    Saved {
        /// Its length in bytes.
        bytes: usize,
        /// Why it is not creditable, if so.
        uncredited: Option<Uncredited>,
    },
    /// A seed, or the saving of one, was given up.
    Failed(CarryError),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mixed {
                name,
                bytes,
                uncredited,
            } => {
                let bits = bytes.saturating_mul(8);
                match uncredited {
                    None => write!(f, "{name}: mixed and credited {bits} bits"),
                    Some(reason) => {
                        write!(f, "{name}: mixed {bits} bits without credit: {reason}")
                    }
                }
            }
            Self::Empty(name) => write!(f, "{name}: empty, removed"),
            Self::Saved { bytes, uncredited } => {
                let bits = bytes.saturating_mul(8);
                match uncredited {
                    None => write!(f, "saved a creditable seed of {bits} bits"),
                    Some(reason) => {
                        write!(f, "saved a non-creditable seed of {bits} bits: {reason}")
                    }
                }
            }
            Self::Failed(error) => {
                write!(f, "{error}")?;
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}

/// What could not be done; the rest of its group was not tried.
#[derive(Debug)]
pub enum CarryError {
    /// A step on the seed folder.
    Store(StoreError),
    /// The seed was not used, since its removal is not durable.
    NotRemoved(StoreError),
    /// The pool did not take a seed.
    Mix(Name, io::Error),
}

impl fmt::Display for CarryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::NotRemoved(_) => f.write_str("left a seed unused that would outlive its use"),
            Self::Mix(name, _) => write!(f, "mix {name} into {}", paths::URANDOM),
        }
    }
}

impl std::error::Error for CarryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::NotRemoved(error) => Some(error),
            Self::Mix(_, error) => Some(error),
        }
    }
}
