//! The image's bill of materials.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::paths;

/// The bill of materials as it lies in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// The whole JSON document.
    pub document: String,
    /// Its `sbom_hash`: SHA-256 over the inner document, in hexadecimal digits.
    pub hash: String,
}

/// The bill of materials could not be read.
#[derive(Debug)]
pub enum SbomError {
    /// The file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file carries no `sbom_hash` of 64 hexadecimal digits.
    NoHash {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for SbomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "read {}", path.display()),
            Self::NoHash { path } => write!(
                f,
                "{}: no sbom_hash of 64 hexadecimal digits",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SbomError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::NoHash { .. } => None,
        }
    }
}

/// Reads the bill of materials of the running image.
///
/// # Errors
/// [`SbomError`] if the image has none, or one without a hash.
pub fn read_sbom() -> Result<Sbom, SbomError> {
    read_sbom_from(Path::new(paths::SBOM_JSON))
}

/// Reads the bill of materials at `path`.
///
/// # Errors
/// As [`read_sbom`].
pub fn read_sbom_from(path: &Path) -> Result<Sbom, SbomError> {
    let document = std::fs::read_to_string(path).map_err(|source| SbomError::Read {
        path: path.to_owned(),
        source,
    })?;
    let hash = hash_in(&document).ok_or_else(|| SbomError::NoHash {
        path: path.to_owned(),
    })?;
    Ok(Sbom { document, hash })
}

/// The value of the first `"sbom_hash"`; the document is our own builder's, and this crate has no JSON parser.
fn hash_in(document: &str) -> Option<String> {
    let rest = document
        .split_once("\"sbom_hash\"")?
        .1
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?;
    let hash = rest.split_once('"')?.0;
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_found() {
        let hash = "ab".repeat(32);
        assert_eq!(
            hash_in(&format!(
                "{{\n  \"sbom_hash\": \"{hash}\",\n \"sbom\": {{}} }}"
            )),
            Some(hash)
        );
        assert_eq!(hash_in("{\"sbom_hash\": \"short\"}"), None);
        assert_eq!(hash_in("{}"), None);
    }

    #[test]
    fn errors_name_the_file() {
        let error = read_sbom_from(Path::new("/absent/sbom.json")).unwrap_err();
        assert_eq!(error.to_string(), "read /absent/sbom.json");
        let none = SbomError::NoHash { path: "x".into() };
        assert_eq!(none.to_string(), "x: no sbom_hash of 64 hexadecimal digits");
    }
}
