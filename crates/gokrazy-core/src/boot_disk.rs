//! The disk that we boot from: the one that carries the partition which `root=` names.
//!
//! Names of devices are the kernel's business and change with drivers and sockets; we go by GUIDs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cmdline::RootSource;
use crate::gpt::{self, Partition};
use crate::layout::{ROOT_A, ROOT_B, SECTOR_BYTES};
use crate::paths;
use crate::slots::SlotName;

/// The disk that we boot from.
#[derive(Debug)]
pub struct BootDisk {
    /// Name below `/sys/block`; empty if `root=` names a device by its node.
    name: String,
    partitions: Vec<Partition>,
    named_root: PathBuf,
}

impl BootDisk {
    /// The disk that holds what `root=` names, if it is there by now.
    pub fn find(source: &RootSource) -> Option<Self> {
        match source {
            RootSource::PartUuid { uuid, offset } => disks()
                .into_iter()
                .find_map(|name| on_disk(&name, uuid, *offset)),
            RootSource::Device(path) => by_node(Path::new(path)),
        }
    }

    /// Whether its partitions are known to us: without them there are no slots.
    pub fn has_partitions(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Its device node.
    pub fn node(&self) -> PathBuf {
        Path::new(paths::DEV).join(&self.name)
    }

    /// Its partitions.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Its size in sectors of 512 bytes, as the kernel tells it.
    ///
    /// # Errors
    /// The errno of reading it; [`io::ErrorKind::InvalidData`] if it is no number.
    pub fn sectors(&self) -> io::Result<u64> {
        let text = fs::read_to_string(Path::new(paths::SYS_BLOCK).join(&self.name).join("size"))?;
        text.trim()
            .parse()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// The device that `root=` names.
    pub fn named_root(&self) -> &Path {
        &self.named_root
    }

    /// The device of a slot's root.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the kernel knows no such partition.
    pub fn root_of(&self, slot: SlotName) -> io::Result<PathBuf> {
        self.partition_node(match slot {
            SlotName::A => ROOT_A.number,
            SlotName::B => ROOT_B.number,
        })
    }

    /// First byte of a partition; `None` if there is no such partition.
    pub fn start_of(&self, number: u32) -> Option<u64> {
        let partition = self
            .partitions
            .iter()
            .find(|partition| partition.number == number)?;
        partition.first_lba.checked_mul(SECTOR_BYTES)
    }

    /// The node of partition `number`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the kernel knows no such partition.
    pub fn partition_node(&self, number: u32) -> io::Result<PathBuf> {
        partition_node(&self.name, number)
    }
}

/// Names of the disks that the kernel knows, without those in memory.
pub fn disks() -> Vec<String> {
    let entries = fs::read_dir(paths::SYS_BLOCK)
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| !name.starts_with("loop") && !name.starts_with("ram"));
    names.sort();
    names
}

/// The disk called `name`, if it holds the partition and the kernel has made its node.
fn on_disk(name: &str, uuid: &str, offset: u32) -> Option<BootDisk> {
    let head = read_head(name).ok()?;
    let partitions: Vec<Partition> = gpt::Table::parse(&head)
        .map(|table| table.partitions().collect())
        .unwrap_or_default();
    let number = match partitions.iter().find(|partition| partition.guid == uuid) {
        Some(partition) => partition.number,
        None => mbr_number(&head, uuid)?,
    };
    let named_root = partition_node(name, number.checked_add(offset)?).ok()?;
    Some(BootDisk {
        name: name.to_owned(),
        partitions,
        named_root,
    })
}

fn read_head(name: &str) -> io::Result<Vec<u8>> {
    let length = gpt::HEAD_SECTORS * SECTOR_BYTES;
    let mut head = Vec::new();
    File::open(Path::new(paths::DEV).join(name))?
        .take(length)
        .read_to_end(&mut head)?;
    Ok(head)
}

/// The partition's number, if the MBR's disk signature is the one of `<signature>-<number>` (gokrazy's older form).
fn mbr_number(head: &[u8], uuid: &str) -> Option<u32> {
    let (signature, number) = uuid.split_once('-')?;
    let stored = u32::from_le_bytes(*head.get(440..)?.first_chunk()?);
    (signature.len() == 8 && signature == format!("{stored:08x}"))
        .then(|| u32::from_str_radix(number, 16).ok())?
}

fn by_node(path: &Path) -> Option<BootDisk> {
    path.exists().then(|| BootDisk {
        name: String::new(),
        partitions: Vec::new(),
        named_root: path.to_owned(),
    })
}

/// The kernel's own word for it, since `sda2` and `mmcblk0p2` differ in form.
fn partition_node(disk: &str, number: u32) -> io::Result<PathBuf> {
    let wanted = number.to_string();
    let node = fs::read_dir(Path::new(paths::SYS_BLOCK).join(disk))?
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path().join("partition"))
                .is_ok_and(|text| text.trim() == wanted)
        })
        .map(|entry| Path::new(paths::DEV).join(entry.file_name()))
        .filter(|node| node.exists());
    node.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("disk {disk} has no partition {number}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mbr_form_of_a_partuuid() {
        let mut head = vec![0; 512];
        head[440..444].copy_from_slice(&0x2e18_c40c_u32.to_le_bytes());
        assert_eq!(mbr_number(&head, "2e18c40c-02"), Some(2));
        assert_eq!(mbr_number(&head, "2e18c40d-02"), None);
        assert_eq!(mbr_number(&head, "2e18c40c"), None);
        assert_eq!(mbr_number(&head[..441], "2e18c40c-02"), None);
    }
}
