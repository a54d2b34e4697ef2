//! Partition tables: a GPT whose ids derive from the host name, and the MBR in front of it; pure.
//!
//! The boot ROM of the Pi 3 reads no GPT, so the Pi's MBR is a hybrid one: its first entry is the boot partition, its
//! second protects the GPT (UEFI specification 2.10, section 5).
//! Other machines get the protective MBR that the specification asks for.
//!
//! The ids are gokrazy's own (a fixed prefix, a hash of the host name, the partition's number), so that a device that
//! ran gokrazy under the same name finds our root under the id it knows.

use std::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};
use gokrazy_core::layout::{
    BACKUP_GPT_SECTORS, BOOT, Extent, PERM_FIRST_LBA, PERM_NUMBER, ROOT_A, ROOT_B, perm_sectors,
};
use gokrazy_core::slots::SlotName;

const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const SECTOR: usize = 512;
const ENTRIES: u32 = 128;
const ENTRY_BYTES: u32 = 128;
const HEADER_BYTES: u32 = 92;
/// First sector behind header and entries.
const FIRST_USABLE: u64 = 34;
/// MBR type of FAT32 that is addressed by LBA, which the Pi's boot ROM looks for.
const FAT32_LBA: u8 = 0x0c;
/// MBR type of the entry that keeps old tools off a GPT.
const PROTECTIVE: u8 = 0xee;

const EFI_SYSTEM: Guid = Guid(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
const LINUX_DATA: Guid = Guid(0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4);
/// The ids' first twelve bytes less the last two.
const GOKRAZY_PREFIX: u128 = 0x60c2_4cc1_f3f9_427a_8199 << 48;

/// A GUID as one reads it, most significant digit first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guid(u128);

impl Guid {
    /// The id of partition `number`, or of the disk for 0, on the device called `hostname`.
    fn of_partition(hostname: &str, number: u32) -> Self {
        let hash = u128::from(fnv1a(hostname.as_bytes()));
        Self(GOKRAZY_PREFIX | hash << 16 | u128::from(number))
    }

    /// An id for another purpose, which `number` (from 0x100) tells apart.
    pub(crate) fn derived(hostname: &str, number: u32) -> Self {
        Self::of_partition(hostname, number)
    }

    /// On disk the first three fields are little-endian (RFC 9562 appendix A, UEFI appendix A).
    fn on_disk(self) -> [u8; 16] {
        let mut bytes = self.0.to_be_bytes();
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let (a, rest) = digits.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// The id of the root partition of `slot`, for the kernel's `root=PARTUUID=`.
pub(crate) fn root_id(hostname: &str, slot: SlotName) -> Guid {
    let extent = match slot {
        SlotName::A => ROOT_A,
        SlotName::B => ROOT_B,
    };
    Guid::of_partition(hostname, extent.number)
}

/// Which MBR stands before the GPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mbr {
    /// Shows the boot partition to machines that read no GPT.
    Hybrid,
    /// Only protects the GPT.
    Protective,
}

/// Bytes at the disk's start and at its end.
#[derive(Debug)]
pub(crate) struct Tables {
    /// MBR, GPT header and entries, from sector 0.
    pub(crate) primary: Vec<u8>,
    /// Entries and backup header.
    pub(crate) backup: Vec<u8>,
    /// Where the backup starts.
    pub(crate) backup_lba: u64,
}

/// The tables of a disk of `disk_sectors`, or `None` if it is too small for the layout.
pub(crate) fn tables(hostname: &str, mbr: Mbr, disk_sectors: u64) -> Option<Tables> {
    let perm = Extent {
        number: PERM_NUMBER,
        first_lba: PERM_FIRST_LBA,
        sectors: perm_sectors(disk_sectors)?,
    };
    let entries = entries(hostname, &perm);
    let last = disk_sectors - 1;
    let backup_lba = disk_sectors - BACKUP_GPT_SECTORS;
    let header = |own: u64, other: u64, entries_lba: u64| {
        header(hostname, disk_sectors, own, other, entries_lba, &entries)
    };
    let mut primary = master_boot_record(hostname, mbr, disk_sectors);
    primary.extend(header(1, last, 2));
    primary.extend(&entries);
    let mut backup = entries.clone();
    backup.extend(header(last, 1, backup_lba));
    Some(Tables {
        primary,
        backup,
        backup_lba,
    })
}

fn entries(hostname: &str, perm: &Extent) -> Vec<u8> {
    let rows = [
        (&BOOT, EFI_SYSTEM, "boot"),
        (&ROOT_A, LINUX_DATA, "root-a"),
        (&ROOT_B, LINUX_DATA, "root-b"),
        (perm, LINUX_DATA, "perm"),
    ];
    let mut bytes = Vec::new();
    for (extent, kind, name) in rows {
        let end = bytes.len() + ENTRY_BYTES as usize;
        bytes.extend(kind.on_disk());
        bytes.extend(Guid::of_partition(hostname, extent.number).on_disk());
        bytes.extend(extent.first_lba.to_le_bytes());
        bytes.extend((extent.end_lba() - 1).to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.resize(end, 0);
    }
    bytes.resize((ENTRIES * ENTRY_BYTES) as usize, 0);
    bytes
}

fn header(
    hostname: &str,
    disk_sectors: u64,
    own: u64,
    other: u64,
    entries_lba: u64,
    entries: &[u8],
) -> Vec<u8> {
    let fields = |checksum: u32| {
        let mut bytes = b"EFI PART\0\0\x01\0".to_vec();
        bytes.extend(HEADER_BYTES.to_le_bytes());
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(own.to_le_bytes());
        bytes.extend(other.to_le_bytes());
        bytes.extend(FIRST_USABLE.to_le_bytes());
        bytes.extend((disk_sectors - BACKUP_GPT_SECTORS - 1).to_le_bytes());
        bytes.extend(Guid::of_partition(hostname, 0).on_disk());
        bytes.extend(entries_lba.to_le_bytes());
        bytes.extend(ENTRIES.to_le_bytes());
        bytes.extend(ENTRY_BYTES.to_le_bytes());
        bytes.extend(CRC32.checksum(entries).to_le_bytes());
        bytes
    };
    // The checksum covers the header with zeros in its own place.
    let mut bytes = fields(CRC32.checksum(&fields(0)));
    bytes.resize(SECTOR, 0);
    bytes
}

fn master_boot_record(hostname: &str, mbr: Mbr, disk_sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; 440];
    bytes.extend(fnv1a(hostname.as_bytes()).to_le_bytes());
    bytes.extend([0; 2]);
    match mbr {
        Mbr::Hybrid => {
            bytes.extend(mbr_entry(true, FAT32_LBA, BOOT.first_lba, BOOT.sectors));
            bytes.extend(mbr_entry(false, PROTECTIVE, 1, BOOT.first_lba - 1));
        }
        Mbr::Protective => bytes.extend(mbr_entry(false, PROTECTIVE, 1, disk_sectors - 1)),
    }
    bytes.resize(SECTOR - 2, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}

fn mbr_entry(active: bool, kind: u8, first: u64, sectors: u64) -> Vec<u8> {
    // Cylinders, heads and sectors of their kind are not counted any more: "beyond what can be told" at both ends.
    const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
    let saturated = |count: u64| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = vec![if active { 0x80 } else { 0 }];
    bytes.extend(BEYOND);
    bytes.push(kind);
    bytes.extend(BEYOND);
    bytes.extend(saturated(first));
    bytes.extend(saturated(sectors));
    bytes
}

/// Fowler, Noll and Vo's hash, variant 1a of 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 2 * 1024 * 1024 * 2;

    #[test]
    fn ids_are_those_that_gokrazy_derives() {
        // FNV-1a of "hello" is a published test vector.
        assert_eq!(fnv1a(b"hello"), 0x4f9f_2cab);
        assert_eq!(
            root_id("hello", SlotName::A).to_string(),
            "60c24cc1-f3f9-427a-8199-4f9f2cab0002"
        );
        assert_eq!(
            LINUX_DATA.to_string(),
            "0fc63daf-8483-4772-8e79-3d69d8477de4"
        );
        assert_eq!(
            LINUX_DATA.on_disk()[..6],
            [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84]
        );
    }

    #[test]
    fn the_hybrid_mbr_shows_the_boot_partition_and_protects_the_gpt() {
        let tables = tables("hello", Mbr::Hybrid, DISK).unwrap();
        assert_eq!(
            tables.primary[446..478],
            [
                0x80, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0x00, 0x20, 0, 0, 0x00, 0x00, 0x08,
                0, //
                0x00, 0xfe, 0xff, 0xff, 0xee, 0xfe, 0xff, 0xff, 0x01, 0x00, 0, 0, 0xff, 0x1f, 0x00,
                0
            ]
        );
        assert_eq!(tables.primary[510..512], [0x55, 0xaa]);
    }

    #[test]
    fn both_headers_are_whole_and_point_at_each_other() {
        let tables = tables("hello", Mbr::Protective, DISK).unwrap();
        assert_eq!(tables.backup_lba, DISK - 33);
        assert_eq!(tables.backup.len(), 33 * SECTOR);
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let check = |header: &[u8], own: u64, other: u64| {
            let mut zeroed = header[..92].to_vec();
            zeroed[16..20].fill(0);
            let stored = u32::from_le_bytes(header[16..20].try_into().unwrap());
            assert_eq!(stored, CRC32.checksum(&zeroed));
            assert_eq!((number(header, 24), number(header, 32)), (own, other));
        };
        check(&tables.primary[512..1024], 1, DISK - 1);
        check(&tables.backup[32 * SECTOR..], DISK - 1, 1);
        assert_eq!(tables.primary[1024..], tables.backup[..32 * SECTOR]);
    }

    #[test]
    fn a_disk_that_is_too_small_has_no_tables() {
        assert!(tables("hello", Mbr::Hybrid, PERM_FIRST_LBA).is_none());
    }
}
