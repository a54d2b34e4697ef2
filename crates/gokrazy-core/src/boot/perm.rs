//! `/perm`: grown to the card, mounted, or replaced by a temporary one.
//!
//! Nothing here formats anything.
//! A power cut while the partition grows leaves the old table or the new one ([`table_writes`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount as mount_call};

use super::perm_plan::{Ext4, SUPERBLOCK_END, grown_table, table_writes};
use super::{problem, say};
use crate::boot_disk::BootDisk;
use crate::cmdline::CommandLine;
use crate::gpt::Table;
use crate::kmsg::Priority;
use crate::layout::{PERM_NUMBER, SECTOR_BYTES};
use crate::paths;

/// How much memory a temporary `/perm` may take.
const TEMPORARY_OPTIONS: &str = "mode=0755,size=25%";

/// What there is to say of `/perm`.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Why it is a temporary one, if it is.
    pub(super) temporary: Option<String>,
    /// What its file system noted of its own damage, if there is any.
    pub(super) damage: Option<String>,
}

/// Mounts `/perm` of the disk `chosen` by stage 1, or of the one that holds the root.
pub(super) fn mount(chosen: Option<&Path>, problems: &mut Vec<String>) -> Trouble {
    match mount_lasting(chosen, problems) {
        Ok(damage) => {
            if let Some(damage) = &damage {
                problem(problems, damage);
            }
            Trouble {
                temporary: None,
                damage,
            }
        }
        Err(error) => {
            let why = error.to_string();
            say(
                Priority::Error,
                &format!("/perm is temporary, nothing will outlive this boot: {why}"),
            );
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            if let Err(errno) = mount_call(
                Some("tmpfs"),
                paths::PERM,
                Some("tmpfs"),
                flags,
                Some(TEMPORARY_OPTIONS),
            ) {
                problem(problems, &format!("mount a temporary /perm: {errno}"));
            }
            Trouble {
                temporary: Some(why),
                damage: None,
            }
        }
    }
}

/// Returns what the file system noted of its own damage; it is used all the same, since what it holds is the device's
/// memory, and the kernel makes it read-only where it meets an error.
fn mount_lasting(chosen: Option<&Path>, problems: &mut Vec<String>) -> io::Result<Option<String>> {
    let line = std::fs::read(paths::PROC_CMDLINE)?;
    let line = CommandLine::parse(&String::from_utf8_lossy(&line));
    let disk = line.root().and_then(|source| match chosen {
        Some(node) => BootDisk::at(node, &source),
        None => BootDisk::find(&source),
    });
    let disk = disk
        .filter(BootDisk::has_partitions)
        .ok_or_else(|| io::Error::other("the boot disk was not found"))?;
    let node = disk.partition_node(PERM_NUMBER)?;
    let ext4 = superblock(&node)?;
    // A partition that could not grow is mounted as it is.
    if let Err(error) = grow_partition(&disk) {
        problem(problems, &format!("grow partition {PERM_NUMBER}: {error}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount_call(
        Some(&node),
        paths::PERM,
        Some("ext4"),
        flags,
        Some("errors=remount-ro"),
    )
    .map_err(|errno| io::Error::other(format!("mount {}: {errno}", node.display())))?;
    if let Err(error) = grow_file_system(&node, ext4) {
        problem(problems, &format!("grow the file system of /perm: {error}"));
    }
    Ok(ext4.damage())
}

fn superblock(node: &Path) -> io::Result<Ext4> {
    let mut start = Vec::new();
    File::open(node)?
        .take(SUPERBLOCK_END as u64)
        .read_to_end(&mut start)?;
    Ext4::parse(&start)
        .ok_or_else(|| io::Error::other(format!("{} holds no ext4 file system", node.display())))
}

/// Lets the partition reach to the card's end, and mends a primary table that a power cut damaged.
fn grow_partition(disk: &BootDisk) -> io::Result<()> {
    let Some(table) = disk.table() else {
        return Ok(());
    };
    let grown = grown_table(table, disk.sectors()?);
    if grown.is_none() && disk.primary_is_whole() {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(disk.node())?;
    let wanted = grown.as_ref().map_or(table, |(table, _)| table);
    write_table(&file, wanted, disk.primary_is_whole())?;
    if !disk.primary_is_whole() {
        say(
            Priority::Warning,
            "the partition table was damaged and was put back from its backup",
        );
    }
    if let Some((_, sectors)) = grown {
        tell_kernel(disk, &file, sectors)?;
    }
    Ok(())
}

fn tell_kernel(disk: &BootDisk, file: &File, sectors: u64) -> io::Result<()> {
    let start = disk
        .start_of(PERM_NUMBER)
        .and_then(|start| i64::try_from(start).ok());
    let length = sectors
        .checked_mul(SECTOR_BYTES)
        .and_then(|bytes| i64::try_from(bytes).ok());
    let number = i32::try_from(PERM_NUMBER).ok();
    let (Some(number), Some(start), Some(length)) = (number, start, length) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    gokrazy_sys::disk::resize_partition(file, number, start, length)?;
    say(
        Priority::Info,
        &format!("partition {PERM_NUMBER} grew to {} MiB", sectors / 2048),
    );
    Ok(())
}

fn write_table(file: &File, table: &Table, primary_is_whole: bool) -> io::Result<()> {
    let writes = table_writes(table, primary_is_whole)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    for (lba, bytes) in writes {
        file.write_all_at(&bytes, lba.saturating_mul(SECTOR_BYTES))?;
        file.sync_all()?;
    }
    Ok(())
}

/// Starts a child that grows the mounted file system to its partition: on a large card that takes a while.
fn grow_file_system(node: &Path, ext4: Ext4) -> io::Result<()> {
    let sectors = partition_sectors(node)?;
    let Some(blocks) = ext4.grown(sectors) else {
        return Ok(());
    };
    let folder = File::open(paths::PERM)?;
    gokrazy_sys::process::fork(move || {
        match gokrazy_sys::disk::resize_ext4(&folder, blocks) {
            Ok(()) => say(
                Priority::Info,
                &format!(
                    "/perm grew to {} MiB",
                    blocks.saturating_mul(ext4.block_bytes) >> 20
                ),
            ),
            Err(error) => say(
                Priority::Warning,
                &format!("grow the file system of /perm: {error}"),
            ),
        }
        0
    })?;
    Ok(())
}

fn partition_sectors(node: &Path) -> io::Result<u64> {
    let name = node.file_name().unwrap_or_default();
    let path: PathBuf = Path::new(paths::SYS_CLASS_BLOCK).join(name).join("size");
    std::fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}
