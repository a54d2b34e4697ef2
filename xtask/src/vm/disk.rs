//! The disk that a guest may change: a copy of an image, as long as the card that it is flashed to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
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
fn copy_sparsely(from: &Path, to: &Path) -> Result<u64> {
    let mut source = File::open(from)?;
    // What cannot be read must not cost the disk of the last run, which `--keep` goes on with.
    source.read_exact(&mut [0])?;
    source.rewind()?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // As the image itself: it holds the password's hash.
    let mut target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    target.set_permissions(Permissions::from_mode(0o600))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_long_as_its_card_and_nobody_else_s_to_read() {
        let folder = std::env::temp_dir().join(format!("xtask-disk-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            let volatile = gokrazy_core::atomic::Durability::Volatile;
            gokrazy_core::atomic::replace(&path, content, 0o644, volatile).unwrap();
            path
        };
        let image = put(
            "image",
            &[[7; 10].as_slice(), &[0; PIECE], &[9; 5]].concat(),
        );
        // One that was there before is no more open than a new one.
        let disk = put("disk", b"old");
        let disk = Disk::flash(&image, &disk, Machine::Virt, 3 * MIB).unwrap();
        assert_eq!(disk.bytes().unwrap(), 3 * MIB);
        assert_eq!(disk.read(0, 10).unwrap(), [7; 10]);
        assert_eq!(disk.read(10 + PIECE as u64, 6).unwrap(), [9, 9, 9, 9, 9, 0]);
        let mode = fs::metadata(disk.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
