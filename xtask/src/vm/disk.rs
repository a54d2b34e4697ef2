//! The disk that a guest may change: a copy of an image, as long as the card that it is flashed to.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::qemu::Machine;

const MIB: u64 = 1024 * 1024;

/// Bytes that are copied at a time; a piece of zeros becomes a hole.
const PIECE: usize = 1024 * 1024;

/// A disk in a file.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Copies `image` to `path`, and makes it at least `least` bytes long, and as long as `machine` asks of a disk.
    ///
    /// # Errors
    /// The file that cannot be read or written.
    pub(crate) fn flash(image: &Path, path: &Path, machine: Machine, least: u64) -> Result<Self> {
        let copied = copy_sparsely(image, path)
            .with_context(|| format!("copy {} to {}", image.display(), path.display()))?;
        let disk = Self {
            path: path.to_owned(),
        };
        disk.resize(machine.disk_bytes(copied.max(least).max(MIB)))?;
        Ok(disk)
    }

    /// Makes it longer, or cuts it off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn resize(&self, length: u64) -> Result<()> {
        self.open()?
            .set_len(length)
            .with_context(|| format!("make {} {length} bytes long", self.path.display()))
    }

    /// A disk that is there already.
    pub(crate) fn existing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let metadata =
            fs::metadata(&self.path).with_context(|| format!("look at {}", self.path.display()))?;
        Ok(metadata.len())
    }

    /// Overwrites bytes at `offset`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.open()?
            .write_all_at(bytes, offset)
            .with_context(|| format!("write {} at {offset}", self.path.display()))
    }

    /// Reads bytes at `offset`.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.open()?
            .read_exact_at(&mut bytes, offset)
            .with_context(|| format!("read {} at {offset}", self.path.display()))?;
        Ok(bytes)
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .with_context(|| format!("open {}", self.path.display()))
    }
}

/// Copies and returns the length; a disk image is mostly zeros, and those take no room.
#[expect(
    clippy::disallowed_methods,
    reason = "a scratch disk is no file that a reader could see half of"
)]
fn copy_sparsely(from: &Path, to: &Path) -> Result<u64> {
    let mut source = File::open(from)?;
    // What cannot be read must not cost the disk of the last run, which `--keep` goes on with.
    source.read_exact(&mut [0])?;
    source.rewind()?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut target = File::create(to)?;
    let mut piece = vec![0; PIECE];
    let mut length = 0;
    loop {
        let count = source.read(&mut piece)?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            target.set_len(length)?;
            return Ok(length);
        }
        match read.iter().all(|byte| *byte == 0) {
            true => target.seek(SeekFrom::Current(count as i64)).map(drop)?,
            false => target.write_all(read)?,
        }
        length += count as u64;
    }
}
