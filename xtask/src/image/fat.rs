//! The boot partition's file system: FAT32 made by mtools, the same bytes for the same files.
//!
//! The crate fatfs was tried and left: it gives `.` and `..` long names, which fsck.fat calls damage.
//! Two KiB a cluster, as the makers of the Pi ship it, so that every boot ROM has seen its like.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gokrazy_core::layout::{BOOT, SECTOR_BYTES};

use super::cache::Cache;
use super::tree::Content;
use crate::{digest, process};

const SECTORS_PER_CLUSTER: &str = "4";
const LABEL: &str = "GOKRAZY";

/// The first time that FAT can tell: 1980.
const FAT_EPOCH: u64 = 315_532_800;

/// A file of the boot partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFile {
    /// Path without a leading slash.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) content: Content,
}

/// All names and contents as one hash.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn digest(files: &[BootFile]) -> Result<String> {
    let mut lines = Vec::new();
    for file in files {
        lines.push(format!(
            "{} {}",
            file.path,
            digest::of_bytes(&file.content.read()?)
        ));
    }
    Ok(digest::of_bytes(lines.join("\n").as_bytes()))
}

/// A file with the whole partition: `files`, and `folders` that may be empty; `time` in seconds since 1970.
///
/// # Errors
/// A file cannot be read, or the partition is too small for all of them.
pub(crate) fn partition(
    cache: &Cache,
    files: &[BootFile],
    folders: &[&str],
    volume_id: u32,
    time: u64,
) -> Result<PathBuf> {
    let key = format!("boot-{time}-{volume_id:08x}-{}", digest(files)?);
    cache.thing(&key, |half| {
        let tools = Tools { image: half, time };
        tools.format(volume_id)?;
        tools.run(
            "mmd",
            all_folders(files, folders).iter().map(String::as_str),
        )?;
        for file in files {
            tools.put(file)?;
        }
        Ok(())
    })
}

/// Every folder, those that hold one before it.
fn all_folders(files: &[BootFile], folders: &[&str]) -> Vec<String> {
    let above = |path: &str| -> Vec<String> {
        path.match_indices('/')
            .map(|(at, _)| path.chars().take(at).collect())
            .collect()
    };
    let mut all: BTreeSet<String> = folders.iter().map(|folder| (*folder).to_owned()).collect();
    all.extend(files.iter().flat_map(|file| above(&file.path)));
    all.into_iter()
        .map(|folder| format!("::{folder}"))
        .collect()
}

struct Tools<'image> {
    image: &'image Path,
    time: u64,
}

impl Tools<'_> {
    fn format(&self, volume_id: u32) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.image)
            .and_then(|file| file.set_len(BOOT.sectors * SECTOR_BYTES))
            .with_context(|| format!("create {}", self.image.display()))?;
        let (sectors, before) = (BOOT.sectors.to_string(), BOOT.first_lba.to_string());
        let serial = format!("{volume_id:08x}");
        self.run(
            "mformat",
            [
                "-F",
                "-c",
                SECTORS_PER_CLUSTER,
                "-T",
                &sectors,
                "-H",
                &before,
                "-h",
                "255",
                "-s",
                "63",
                "-N",
                &serial,
                "-v",
                LABEL,
                "::",
            ],
        )
    }

    fn put(&self, file: &BootFile) -> Result<()> {
        let target = format!("::{}", file.path);
        let written = match &file.content {
            Content::File(path) => self.run("mcopy", [path.to_string_lossy().as_ref(), &target]),
            Content::Bytes(bytes) => {
                let source = self.image.with_extension("in");
                let mut half = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&source)
                    .with_context(|| format!("create {}", source.display()))?;
                let copied = half
                    .write_all(bytes)
                    .with_context(|| format!("write {}", source.display()))
                    .and_then(|()| self.run("mcopy", [source.to_string_lossy().as_ref(), &target]));
                let _ = std::fs::remove_file(&source);
                copied
            }
        };
        written.with_context(|| format!("put {} into the boot partition", file.path))
    }

    fn run<'argument>(
        &self,
        tool: &str,
        arguments: impl IntoIterator<Item = &'argument str>,
    ) -> Result<()> {
        let mut command = Command::new(tool);
        command
            .arg("-i")
            .arg(self.image)
            .args(arguments)
            // Every time stamp, and no settings of this machine's user.
            .env("SOURCE_DATE_EPOCH", self.time.max(FAT_EPOCH).to_string())
            .env("TZ", "UTC")
            .env("MTOOLSRC", self.image.with_extension("none"))
            .env("HOME", self.image.with_extension("none"));
        process::capture(&mut command).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> BootFile {
        BootFile {
            path: path.to_owned(),
            content: Content::from("text\n"),
        }
    }

    #[test]
    fn folders_come_before_what_they_hold() {
        let files = [
            file("loader/entries/a+3.conf"),
            file("config.txt"),
            file("A/vmlinuz"),
        ];
        assert_eq!(
            all_folders(&files, &["B"]),
            ["::A", "::B", "::loader", "::loader/entries"]
        );
    }

    #[test]
    fn the_hash_depends_on_names_and_contents() {
        let one = digest(&[file("a")]).unwrap();
        assert_eq!(one, digest(&[file("a")]).unwrap());
        assert_ne!(one, digest(&[file("b")]).unwrap());
    }
}
