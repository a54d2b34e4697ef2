//! The boot partition's file system: FAT32 in memory, the same bytes for the same files.
//!
//! Two KiB a cluster, as the makers of the Pi ship it, so that every boot ROM has seen its like.

use std::fmt;
use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};
use gokrazy_core::layout::{BOOT, SECTOR_BYTES};

use super::tree::Content;

const CLUSTER_BYTES: u32 = 2048;

/// FAT's own epoch for every file: times tell nothing here, and a clock would make each image another one.
#[derive(Clone, Copy)]
struct Epoch;

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Epoch")
    }
}

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        DateTime {
            date: self.get_current_date(),
            time,
        }
    }
}

static EPOCH: Epoch = Epoch;

/// A file of the boot partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFile {
    /// Path without a leading slash.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) content: Content,
}

/// The whole partition with `files`, and with `folders` that may be empty.
///
/// # Errors
/// A file cannot be read, or the partition is too small for all of them.
pub(crate) fn partition(files: &[BootFile], folders: &[&str], volume_id: u32) -> Result<Vec<u8>> {
    let size = usize::try_from(BOOT.sectors * SECTOR_BYTES)
        .context("hold the boot partition in memory")?;
    let mut bytes = vec![0; size];
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER_BYTES)
        .volume_id(volume_id)
        .volume_label(*b"GOKRAZY    ");
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options)
        .context("format the boot partition")?;
    let options = FsOptions::new()
        .time_provider(&EPOCH)
        .update_accessed_date(false);
    let volume =
        FileSystem::new(Cursor::new(&mut bytes[..]), options).context("open the boot partition")?;
    {
        let root = volume.root_dir();
        for folder in folders {
            make_folders(&root, folder)?;
        }
        for file in files {
            if let Some((folder, _)) = file.path.rsplit_once('/') {
                make_folders(&root, folder)?;
            }
            let content = file.content.read()?;
            root.create_file(&file.path)
                .and_then(|mut target| {
                    target.truncate()?;
                    target.write_all(&content)?;
                    target.flush()
                })
                .with_context(|| format!("write {} to the boot partition", file.path))?;
        }
    }
    volume.unmount().context("finish the boot partition")?;
    Ok(bytes)
}

fn make_folders(root: &fatfs::Dir<'_, Cursor<&mut [u8]>>, path: &str) -> Result<()> {
    for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let folder = &path[..at];
        // Opens the folder where it exists.
        root.create_dir(folder)
            .with_context(|| format!("make {folder} in the boot partition"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_are_found_again_and_the_bytes_depend_on_nothing_else() {
        let files = [
            BootFile {
                path: "config.txt".to_owned(),
                content: Content::from("os_prefix=A/\n"),
            },
            BootFile {
                path: "loader/entries/gokrazy-a+3.conf".to_owned(),
                content: Content::from("title x\n"),
            },
        ];
        let mut bytes = partition(&files, &["A", "B"], 7).unwrap();
        assert!(bytes == partition(&files, &["A", "B"], 7).unwrap());
        let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new()).unwrap();
        let mut text = String::new();
        let root = volume.root_dir();
        root.open_file("loader/entries/gokrazy-a+3.conf")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "title x\n");
        assert!(root.open_dir("B").is_ok());
        assert_eq!(volume.fat_type(), FatType::Fat32);
        assert_eq!(volume.volume_id(), 7);
    }
}
