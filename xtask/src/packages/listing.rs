//! What an unpacked package held when it was unpacked: every path with its size, as a hash beside the tree.
//!
//! A cache loses files to full disks and tidy people; a build must notice before it ships the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use gokrazy_core::atomic::{self, Durability};

use crate::digest;

/// Notes what is in `half`, for when it stands at `tree`.
///
/// # Errors
/// A folder that cannot be read, or a note that cannot be written.
pub(super) fn store(half: &Path, tree: &Path) -> Result<()> {
    let text = format!("{}\n", hash(half)?);
    Ok(atomic::replace(
        &note(tree),
        text.as_bytes(),
        0o644,
        Durability::Volatile,
    )?)
}

/// Whether `tree` is there and holds what it held at first.
pub(super) fn matches(tree: &Path) -> bool {
    let noted = fs::read_to_string(note(tree)).unwrap_or_default();
    tree.is_dir() && hash(tree).is_ok_and(|hash| hash == noted.trim())
}

/// When `tree` was unpacked, if it was.
pub(super) fn noted(tree: &Path) -> Option<SystemTime> {
    fs::metadata(note(tree))
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn note(tree: &Path) -> PathBuf {
    tree.with_extension("listing")
}

fn hash(tree: &Path) -> Result<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry
                .with_context(|| format!("list {}", folder.display()))?
                .path();
            let metadata = path
                .symlink_metadata()
                .with_context(|| format!("look at {}", path.display()))?;
            let relative = path
                .strip_prefix(tree)
                .unwrap_or(&path)
                .display()
                .to_string();
            if metadata.is_dir() {
                waiting.push(path);
            } else {
                lines.push(format!("{relative} {}", metadata.len()));
            }
        }
    }
    lines.sort();
    Ok(digest::of_bytes(lines.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_shortened_file_is_noticed() {
        let base = std::env::temp_dir().join(format!("xtask-listing-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let tree = base.join("tree");
        fs::create_dir_all(tree.join("a")).unwrap();
        let put = |bytes: &[u8]| {
            atomic::replace(&tree.join("a/file"), bytes, 0o600, Durability::Volatile).unwrap()
        };
        put(b"whole");
        assert!(!matches(&tree), "nothing was noted yet");
        store(&tree, &tree).unwrap();
        assert!(matches(&tree));
        put(b"whol");
        assert!(!matches(&tree));
        put(b"whole");
        assert!(matches(&tree));
        fs::remove_file(tree.join("a/file")).unwrap();
        assert!(!matches(&tree));
        fs::remove_dir_all(base).unwrap();
    }
}
