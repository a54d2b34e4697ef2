//! Roots that lack a part: the kernel's modules, or one of our daemons.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gokrazy_core::layout::{Extent, ROOT_A, ROOT_B, SECTOR_BYTES};
use serde_json::Value;

use super::lab::{Lab, service, text};
use crate::process;
use crate::vm::disk::Disk;
use crate::vm::guest::Guest;

/// Where a squashfs superblock has the file system's length, and how long that number is.
const SQUASHFS_LENGTH: (u64, usize) = (40, 8);

/// Bytes copied at a time.
const PIECE: u64 = 1024 * 1024;

/// What runs on a device beside the page, which is what we ask.
const DAEMONS: [&str; 4] = ["randomd", "dhcp", "ntp", "hello"];

/// Makes root B the same as root A.
pub(super) fn copy_root(disk: &Disk) -> Result<()> {
    let to = ROOT_B.first_lba * SECTOR_BYTES;
    for (offset, piece) in pieces_of_root_a(disk)? {
        disk.write(to + offset, &piece)?;
    }
    Ok(())
}

/// Makes `target` a root A without the files `paths`.
pub(super) fn root_without(lab: &Lab<'_>, target: Extent, paths: &[&str]) -> Result<()> {
    let folder = lab.scratch("root");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let (packed, tree) = (folder.join("packed"), folder.join("tree"));
    let mut bytes = Vec::new();
    for (_, piece) in pieces_of_root_a(lab.disk())? {
        bytes.extend(piece);
    }
    write(&packed, &bytes)?;
    let mut unpack = Command::new("unsquashfs");
    unpack.args(["-force", "-no-progress", "-dest"]);
    process::capture(unpack.arg(&tree).arg(&packed))?;
    for path in paths {
        let path = tree.join(path);
        let removed = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    put_root(lab.disk(), target, &tree, &packed)
}

/// Packs `tree` by way of the file `packed`, quickly, and puts it at `target`.
fn put_root(disk: &Disk, target: Extent, tree: &Path, packed: &Path) -> Result<()> {
    let mut pack = Command::new("mksquashfs");
    pack.arg(tree).arg(packed).args([
        "-noappend",
        "-quiet",
        "-no-progress",
        "-no-xattrs",
        "-comp",
        "zstd",
        "-Xcompression-level",
        "1",
    ]);
    process::capture(&mut pack)?;
    let bytes = fs::read(packed).with_context(|| format!("read {}", packed.display()))?;
    ensure!(
        bytes.len() as u64 <= target.sectors * SECTOR_BYTES,
        "the root does not fit in its partition"
    );
    disk.write(target.first_lba * SECTOR_BYTES, &bytes)
}

fn pieces_of_root_a(disk: &Disk) -> Result<Vec<(u64, Vec<u8>)>> {
    let from = ROOT_A.first_lba * SECTOR_BYTES;
    let (at, length) = SQUASHFS_LENGTH;
    let bytes: [u8; 8] = disk.read(from + at, length)?.try_into().unwrap_or_default();
    let length = u64::from_le_bytes(bytes);
    ensure!(
        length > 0 && length <= ROOT_A.sectors * SECTOR_BYTES,
        "root A is no squashfs"
    );
    let offsets = (0..length).step_by(PIECE as usize);
    offsets
        .map(|offset| Ok((offset, disk.read(from + offset, PIECE as usize)?)))
        .collect()
}

/// All daemons but `missing` come to run, and the page tells that `missing` does not.
pub(super) fn others_run(lab: &Lab<'_>, guest: &mut Guest, missing: &str) -> Result<()> {
    let runs = |status: &Value, name: &str| {
        service(status, name).is_some_and(|one| text(one, "State") == "running")
    };
    let status = lab.status_where(guest, "the other daemons run", |status| {
        let mut others = DAEMONS.iter().filter(|name| **name != missing);
        others.all(|name| runs(status, name))
    })?;
    ensure!(
        !runs(&status, missing),
        "{missing} runs, and is not in the image"
    );
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "squashfs-tools read it only after we have written it"
)]
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
