//! Looks into the data partition of a disk whose guest is switched off, with the tools of e2fsprogs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use gokrazy_core::layout::{PERM_FIRST_LBA, SECTOR_BYTES};

use super::disk::Disk;
use crate::process;

/// First byte of the data partition.
pub(crate) const PERM_OFFSET: u64 = PERM_FIRST_LBA * SECTOR_BYTES;

/// The whole content of a file, by its path in the file system.
///
/// # Errors
/// It is not there, or the file system cannot be read.
pub(crate) fn read(disk: &Disk, path: &str) -> Result<Vec<u8>> {
    ask(disk, "cat", path)
}

/// Names of the files in a folder.
///
/// # Errors
/// It is not there, or the file system cannot be read.
pub(crate) fn names(disk: &Disk, folder: &str) -> Result<Vec<String>> {
    // One line an entry: `/inode/mode/user/group/name/size/`.
    let listing = String::from_utf8_lossy(&ask(disk, "ls -p", folder)?).into_owned();
    Ok(listing
        .lines()
        .filter_map(|line| line.split('/').nth(5))
        .filter(|name| !name.is_empty() && *name != "." && *name != "..")
        .map(str::to_owned)
        .collect())
}

fn ask(disk: &Disk, question: &str, path: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("debugfs");
    command.args(["-R", &format!("{question} {path}"), &device(disk.path())]);
    let output = process::capture(&mut command)?;
    // debugfs ends with 0 whatever happens; what went wrong stands behind its banner.
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaint: Vec<_> = complaint
        .lines()
        .filter(|line| !line.starts_with("debugfs "))
        .collect();
    anyhow::ensure!(
        complaint.is_empty(),
        "{question} {path} in the data partition: {}",
        complaint.join("; ")
    );
    Ok(output.stdout)
}

/// Length of the file system in bytes, as its superblock has it.
///
/// # Errors
/// There is none.
pub(crate) fn bytes(disk: &Disk) -> Result<u64> {
    let output = process::capture(Command::new("dumpe2fs").args(["-h", &device(disk.path())]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| -> Result<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.with_context(|| format!("find `{name}` in what dumpe2fs says"))?;
        value
            .trim()
            .parse()
            .with_context(|| format!("read `{name}{value}`"))
    };
    Ok(field("Block count:")? * field("Block size:")?)
}

/// Marks the file system as one that met an error (`EXT4_ERROR_FS`), which nothing but a check takes off.
///
/// # Errors
/// The file system cannot be written.
pub(crate) fn mark_as_damaged(disk: &Disk) -> Result<()> {
    let mut command = Command::new("debugfs");
    command.args(["-w", "-R", "set_super_value state 3", &device(disk.path())]);
    process::capture(&mut command).map(drop)
}

/// Checks the file system and changes nothing.
///
/// # Errors
/// What e2fsck found.
pub(crate) fn check(disk: &Disk) -> Result<()> {
    process::capture(Command::new("e2fsck").args(["-f", "-n", &device(disk.path())])).map(drop)
}

/// How e2fsprogs names a file system inside a file.
fn device(disk: &Path) -> String {
    format!("{}?offset={PERM_OFFSET}", disk.display())
}
