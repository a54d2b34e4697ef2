//! The disk that we boot from: the one that carries the partition which `root=` names.
//!
//! Names of devices are the kernel's business and change with drivers and sockets; we go by GUIDs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cmdline::RootSource;
use crate::gpt::{self, Partition};
use crate::layout::{BACKUP_GPT_SECTORS, ROOT_A, ROOT_B, SECTOR_BYTES};
use crate::paths;
use crate::slots::SlotName;

const SECTORS_PER_MIB: u64 = 1024 * 1024 / SECTOR_BYTES;

/// The disk that we boot from.
#[derive(Debug)]
pub struct BootDisk {
    /// Name below `/sys/block`; empty if `root=` names a device by its node.
    name: String,
    table: Option<gpt::Table>,
    partitions: Vec<Partition>,
    primary_is_whole: bool,
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

    /// The disk with the node `node`, if it holds what `root=` names: of two disks with the same image, the one that was
    /// chosen before.
    pub fn at(node: &Path, source: &RootSource) -> Option<Self> {
        match source {
            RootSource::PartUuid { uuid, offset } => {
                on_disk(node.file_name()?.to_str()?, uuid, *offset)
            }
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

    /// Its partition table: the primary one, or the backup where that is damaged.
    pub fn table(&self) -> Option<&gpt::Table> {
        self.table.as_ref()
    }

    /// Whether the primary partition table is undamaged.
    pub fn primary_is_whole(&self) -> bool {
        self.primary_is_whole
    }

    /// Its size in sectors of 512 bytes, as the kernel tells it.
    ///
    /// # Errors
    /// The errno of reading it; [`io::ErrorKind::InvalidData`] if it is no number.
    pub fn sectors(&self) -> io::Result<u64> {
        sectors_of(&self.name)
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

/// Why a disk that is there and was made to hold what `root=` names cannot be booted from: it is smaller than the
/// partitions on it, as after a copy to a smaller card, so that the kernel takes none of them.
pub fn obstacle(source: &RootSource) -> Option<String> {
    let RootSource::PartUuid { uuid, .. } = source else {
        return None;
    };
    disks().into_iter().find_map(|name| {
        let table = gpt::Table::parse(&read(&name, 0, gpt::HEAD_SECTORS).ok()?)?;
        number_in(Some(&table), uuid)?;
        let last = table.partitions().map(|partition| partition.last_lba).max();
        too_small(&name, sectors_of(&name).ok()?, last?)
    })
}

fn too_small(name: &str, sectors: u64, last_lba: u64) -> Option<String> {
    let mib = |sectors: u64| sectors.div_ceil(SECTORS_PER_MIB);
    (last_lba >= sectors).then(|| {
        format!(
            "{name} is too small: it has {} MiB, and the partitions on it need {} MiB; write the image to a larger card",
            sectors / SECTORS_PER_MIB,
            mib(last_lba.saturating_add(BACKUP_GPT_SECTORS))
        )
    })
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
    let head = read(name, 0, gpt::HEAD_SECTORS).ok()?;
    let primary = gpt::Table::parse(&head);
    let primary_is_whole = primary.is_some();
    let (number, table) =
        match number_in(primary.as_ref(), uuid).or_else(|| mbr_number(&head, uuid)) {
            Some(number) => (number, primary),
            None if primary_is_whole => return None,
            None => {
                let backup = read_backup(name);
                (number_in(backup.as_ref(), uuid)?, backup)
            }
        };
    Some(BootDisk {
        name: name.to_owned(),
        partitions: table.iter().flat_map(gpt::Table::partitions).collect(),
        table,
        primary_is_whole,
        named_root: partition_node(name, number.checked_add(offset)?).ok()?,
    })
}

fn number_in(table: Option<&gpt::Table>, uuid: &str) -> Option<u32> {
    let found = table?.partitions().find(|partition| partition.guid == uuid);
    found.map(|partition| partition.number)
}

fn read_backup(name: &str) -> Option<gpt::Table> {
    let sectors = sectors_of(name).ok()?;
    let start = sectors.checked_sub(gpt::TAIL_SECTORS)?;
    let tail = read(name, start, gpt::TAIL_SECTORS).ok()?;
    gpt::Table::parse_backup(&tail, sectors)
}

fn read(name: &str, lba: u64, sectors: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(sectors * SECTOR_BYTES).unwrap_or(0)];
    let offset = lba.saturating_mul(SECTOR_BYTES);
    File::open(Path::new(paths::DEV).join(name))?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn sectors_of(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(Path::new(paths::SYS_BLOCK).join(name).join("size"))?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
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
        table: None,
        partitions: Vec::new(),
        primary_is_whole: true,
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
    fn a_disk_that_ends_before_its_partitions_is_too_small() {
        assert_eq!(too_small("sda", 2_893_824, 2_891_775), None);
        let why = too_small("sda", 2_891_775, 2_891_775).unwrap();
        assert!(why.starts_with(
            "sda is too small: it has 1411 MiB, and the partitions on it need 1413 MiB;"
        ));
    }

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
