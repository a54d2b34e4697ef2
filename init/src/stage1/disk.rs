//! The disk that we boot from: the one that carries the partition which `root=` names.
//!
//! Names of devices are the kernel's business and change with drivers and sockets; we go by GUIDs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use gokrazy_core::cmdline::RootSource;
use gokrazy_core::gpt::{self, Partition};
use gokrazy_core::kmsg::Priority;
use gokrazy_core::layout::{ROOT_A, ROOT_B, SECTOR_BYTES};
use gokrazy_core::paths;
use gokrazy_core::slots::SlotName;
use gokrazy_core::uevent::UeventSocket;

use super::say;

/// Devices come with an announcement; this is for those that were announced while we looked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After this the console learns what we wait for, and again at each multiple.
const PATIENCE: Duration = Duration::from_secs(5);

/// The disk that we boot from.
#[derive(Debug)]
pub(super) struct BootDisk {
    /// Name below `/sys/block`; empty if `root=` names a device that is no partition.
    name: String,
    partitions: Vec<Partition>,
    named_root: PathBuf,
}

impl BootDisk {
    /// Whether its partitions are known to us: without them there are no slots.
    pub(super) fn has_partitions(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Its device node.
    pub(super) fn node(&self) -> String {
        format!("{}/{}", paths::DEV, self.name)
    }

    /// The device that `root=` names.
    pub(super) fn named_root(&self) -> &Path {
        &self.named_root
    }

    /// The device of a slot's root.
    pub(super) fn root_of(&self, slot: SlotName) -> Result<PathBuf> {
        let number = match slot {
            SlotName::A => ROOT_A.number,
            SlotName::B => ROOT_B.number,
        };
        partition_node(&self.name, number)
    }

    /// First byte of a partition.
    pub(super) fn start_of(&self, number: u32) -> Result<u64> {
        let partition = self
            .partitions
            .iter()
            .find(|partition| partition.number == number);
        let lba = partition
            .ok_or_else(|| anyhow!("there is no partition {number}"))?
            .first_lba;
        lba.checked_mul(SECTOR_BYTES)
            .ok_or_else(|| anyhow!("partition {number} starts beyond any disk"))
    }
}

/// Waits until the disk with the root is there; for ever, telling the console what is missing.
#[expect(clippy::disallowed_methods, reason = "this is the loop that waits")]
pub(super) fn wait_for(source: &RootSource, uevents: &UeventSocket) -> BootDisk {
    let start = Instant::now();
    let mut told = 0;
    loop {
        if let Some(disk) = find(source) {
            return disk;
        }
        let patience_lost = start.elapsed().as_secs() / PATIENCE.as_secs();
        if patience_lost > told {
            told = patience_lost;
            say(
                Priority::Warning,
                &format!(
                    "waiting for {}; disks so far: {}",
                    wanted(source),
                    disks_text()
                ),
            );
        }
        uevents.wait(LOOK_AGAIN);
        while uevents.next().is_some() {}
    }
}

fn wanted(source: &RootSource) -> String {
    match source {
        RootSource::PartUuid { uuid, .. } => format!("the disk that holds partition {uuid}"),
        RootSource::Device(path) => path.clone(),
    }
}

fn disks_text() -> String {
    let disks = disks();
    if disks.is_empty() {
        "none".to_owned()
    } else {
        disks.join(", ")
    }
}

fn disks() -> Vec<String> {
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

fn find(source: &RootSource) -> Option<BootDisk> {
    match source {
        RootSource::PartUuid { uuid, offset } => disks()
            .into_iter()
            .find_map(|name| on_disk(&name, uuid, *offset)),
        RootSource::Device(path) => by_node(Path::new(path)),
    }
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

/// The node of partition `number`: the kernel's own word for it, since `sda2` and `mmcblk0p2` differ in form.
fn partition_node(disk: &str, number: u32) -> Result<PathBuf> {
    let folder = Path::new(paths::SYS_BLOCK).join(disk);
    let wanted = number.to_string();
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    entries
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path().join("partition"))
                .is_ok_and(|text| text.trim() == wanted)
        })
        .map(|entry| Path::new(paths::DEV).join(entry.file_name()))
        .filter(|node| node.exists())
        .ok_or_else(|| anyhow!("disk {disk} has no partition {number}"))
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
