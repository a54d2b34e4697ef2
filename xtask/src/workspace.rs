//! Where the workspace and its target folder lie, and which commit it is at.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The start of 2026: any time would do, but FAT knows none before 1980, and a device's clock starts no earlier.
const WITHOUT_COMMIT: u64 = 1_767_225_600;

/// The workspace that `cargo xtask` was called in.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace by this package's own folder.
    ///
    /// # Errors
    /// The folder that does not exist.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets it at run time too; what it was at compile time may have been moved since.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .context("find the workspace above xtask's own folder")?
            .canonicalize()
            .with_context(|| format!("find workspace above {}", package.display()))?;
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |folder| root.join(folder));
        Ok(Self { root, target })
    }

    /// The folder with the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for all that can be made again; nothing outside it is written.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Seconds since 1970 that every time stamp of an image gets: `SOURCE_DATE_EPOCH`, else the commit's time, else a
    /// fixed one.
    ///
    /// # Errors
    /// `SOURCE_DATE_EPOCH` is not a number.
    pub(crate) fn source_date(&self) -> Result<u64> {
        if let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") {
            return value
                .parse()
                .with_context(|| format!("read SOURCE_DATE_EPOCH={value} as seconds since 1970"));
        }
        let mut command = Command::new("git");
        command
            .args(["log", "-1", "--format=%ct"])
            .current_dir(&self.root);
        // An unpacked archive of the sources has no commit.
        let said = process::capture(&mut command)
            .map(|output| output.stdout)
            .unwrap_or_default();
        Ok(String::from_utf8_lossy(&said)
            .trim()
            .parse()
            .unwrap_or(WITHOUT_COMMIT))
    }
}
