//! Reads the boot partition of an image the way a Pi's boot ROM finds it: by the MBR, not by the GPT.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use gokrazy_core::layout::SECTOR_BYTES;

/// Types of FAT partition that the boot ROM accepts.
const FAT_TYPES: [u8; 3] = [0x0b, 0x0c, 0x0e];

/// Where the four entries of an MBR begin, and how long each is.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;

/// The FAT file system of an image's boot partition.
pub(crate) struct BootPartition {
    files: fatfs::FileSystem<Window>,
}

impl BootPartition {
    /// Opens it in the image at `path`.
    ///
    /// # Errors
    /// The image cannot be read, or has no FAT partition that a boot ROM would take.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut sector = [0; SECTOR_BYTES as usize];
        file.read_exact(&mut sector)
            .with_context(|| format!("read the MBR of {}", path.display()))?;
        let Some((start, length)) = fat_entry(&sector) else {
            bail!(
                "{}: no FAT partition in the MBR, so a Raspberry Pi would not boot from it",
                path.display()
            );
        };
        let window = Window {
            file,
            start,
            length,
            at: 0,
        };
        let files = fatfs::FileSystem::new(window, fatfs::FsOptions::new())
            .with_context(|| format!("read the boot partition of {}", path.display()))?;
        Ok(Self { files })
    }

    /// Whether there is a file of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.root_dir().open_file(name).is_ok()
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.files
            .root_dir()
            .open_file(name)
            .and_then(|mut file| file.read_to_end(&mut content))
            .with_context(|| format!("read {name} of the boot partition"))?;
        Ok(content)
    }

    /// The whole content of a text file.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is no text.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        String::from_utf8(self.read(name)?)
            .with_context(|| format!("{name} of the boot partition is no text"))
    }
}

/// First byte and length of the first FAT partition in the MBR.
fn fat_entry(sector: &[u8]) -> Option<(u64, u64)> {
    let number = |entry: &[u8], at: usize| -> Option<u64> {
        let bytes: [u8; 4] = entry.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)) * SECTOR_BYTES)
    };
    let entry = sector
        .get(ENTRIES..)?
        .chunks_exact(ENTRY)
        .take(4)
        .find(|entry| entry.get(4).is_some_and(|kind| FAT_TYPES.contains(kind)))?;
    Some((number(entry, 8)?, number(entry, 12)?))
}

/// A part of a file that looks like a whole one, and refuses to be written.
struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let room = self.length.saturating_sub(self.at);
        let count = (&mut self.file).take(room).read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fat_entry_is_found_behind_the_protective_one() {
        let mut sector = [0; 512];
        sector[446 + 4] = 0xee;
        sector[462 + 4] = 0x0c;
        sector[462 + 8..462 + 12].copy_from_slice(&8192_u32.to_le_bytes());
        sector[462 + 12..462 + 16].copy_from_slice(&4_u32.to_le_bytes());
        assert_eq!(fat_entry(&sector), Some((8192 * 512, 4 * 512)));
        assert_eq!(fat_entry(&[0; 512]), None);
    }
}
