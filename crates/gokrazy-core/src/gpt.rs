//! The GUID partition table, as far as a device needs it: find a partition, let the last one grow; pure.
//!
//! Bytes come in and go out; who holds the disk reads and writes them.
//! Checked against the UEFI specification, section 5.3, with sectors of 512 bytes.

use crc::{CRC_32_ISO_HDLC, Crc};

const SECTOR: usize = 512;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Sectors at the disk's start that hold protective MBR, header and entries.
pub const HEAD_SECTORS: u64 = 34;

/// Most bytes of entries that we read: the 128 entries of 128 bytes that everyone writes.
const ENTRIES_MAX: usize = 128 * 128;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1.
    pub number: u32,
    /// Its GUID in lower case, as `PARTUUID=` names it.
    pub guid: String,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, which belongs to it.
    pub last_lba: u64,
}

/// The partition table, read from the first [`HEAD_SECTORS`] sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: [u8; 92],
    entries: Vec<u8>,
    entry_bytes: usize,
}

impl Table {
    /// Reads the primary table; `None` if there is none or a checksum is wrong.
    ///
    /// `head` is the disk's start, at least [`HEAD_SECTORS`] sectors long.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let sector = head.get(SECTOR..2 * SECTOR)?;
        let table = Self::from_parts(sector, head.get(2 * SECTOR..)?)?;
        (table.u64_at(24)? == 1 && table.u64_at(72)? == 2).then_some(table)
    }

    fn from_parts(header_sector: &[u8], entries: &[u8]) -> Option<Self> {
        let header: [u8; 92] = header_sector.get(..92)?.try_into().ok()?;
        if !header.starts_with(SIGNATURE) || header.get(12..16)? != 92_u32.to_le_bytes() {
            return None;
        }
        let mut table = Self {
            header,
            entries: Vec::new(),
            entry_bytes: 0,
        };
        if table.u32_at(16)? != table.header_checksum() {
            return None;
        }
        let count = usize::try_from(table.u32_at(80)?).ok()?;
        table.entry_bytes = usize::try_from(table.u32_at(84)?).ok()?;
        let length = count.checked_mul(table.entry_bytes)?;
        if table.entry_bytes < 128 || length > ENTRIES_MAX {
            return None;
        }
        table.entries = entries.get(..length)?.to_vec();
        (CHECKSUM.checksum(&table.entries) == table.u32_at(88)?).then_some(table)
    }

    /// The partitions, in the order of their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.entries
            .chunks_exact(self.entry_bytes.max(1))
            .zip(1..)
            .filter_map(|(entry, number)| {
                let used = entry.get(..16)?.iter().any(|byte| *byte != 0);
                used.then_some(())?;
                Some(Partition {
                    number,
                    guid: guid_text(entry.get(16..32)?.try_into().ok()?),
                    first_lba: u64::from_le_bytes(entry.get(32..40)?.try_into().ok()?),
                    last_lba: u64::from_le_bytes(entry.get(40..48)?.try_into().ok()?),
                })
            })
    }

    /// The table with partition `number` ending at `last_lba`, on a disk of `disk_sectors`; `None` if the
    /// partition does not exist, would shrink, or would run into the backup table.
    #[must_use]
    pub fn grown(&self, number: u32, last_lba: u64, disk_sectors: u64) -> Option<Self> {
        let old = self
            .partitions()
            .find(|partition| partition.number == number)?;
        let last_usable = disk_sectors.checked_sub(HEAD_SECTORS)?;
        if last_lba < old.last_lba || last_lba > last_usable {
            return None;
        }
        let mut table = self.clone();
        let start = usize::try_from(number)
            .ok()?
            .checked_sub(1)?
            .checked_mul(self.entry_bytes)?;
        table
            .entries
            .get_mut(start..)?
            .get_mut(40..48)?
            .copy_from_slice(&last_lba.to_le_bytes());
        table
            .header
            .get_mut(32..40)?
            .copy_from_slice(&disk_sectors.checked_sub(1)?.to_le_bytes());
        table
            .header
            .get_mut(48..56)?
            .copy_from_slice(&last_usable.to_le_bytes());
        let checksum = CHECKSUM.checksum(&table.entries);
        table
            .header
            .get_mut(88..92)?
            .copy_from_slice(&checksum.to_le_bytes());
        table.seal();
        Some(table)
    }

    /// The sectors from LBA 1: header, then entries.
    pub fn primary(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.resize(SECTOR, 0);
        bytes.extend_from_slice(&self.entries);
        bytes
    }

    /// The sectors that end the disk, entries before header, and the LBA at which they start.
    pub fn backup(&self) -> Option<(u64, Vec<u8>)> {
        let own = self.u64_at(32)?;
        let start = own.checked_sub(u64::try_from(self.entries.len().div_ceil(SECTOR)).ok()?)?;
        let mut mirror = self.clone();
        mirror
            .header
            .get_mut(24..32)?
            .copy_from_slice(&own.to_le_bytes());
        mirror
            .header
            .get_mut(32..40)?
            .copy_from_slice(&1_u64.to_le_bytes());
        mirror
            .header
            .get_mut(72..80)?
            .copy_from_slice(&start.to_le_bytes());
        mirror.seal();
        let mut bytes = mirror.entries;
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        bytes.extend_from_slice(&mirror.header);
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Some((start, bytes))
    }

    fn seal(&mut self) {
        let checksum = self.header_checksum();
        if let Some(field) = self.header.get_mut(16..20) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// The header's checksum is computed with its own field zero.
    fn header_checksum(&self) -> u32 {
        let mut header = self.header;
        if let Some(field) = header.get_mut(16..20) {
            field.fill(0);
        }
        CHECKSUM.checksum(&header)
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.header.get(at..)?.first_chunk()?))
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.header.get(at..)?.first_chunk()?))
    }
}

/// A GUID as text; its first three fields lie little-endian on the disk.
fn guid_text(bytes: [u8; 16]) -> String {
    let order = [
        3, 2, 1, 0, 16, 5, 4, 16, 7, 6, 16, 8, 9, 16, 10, 11, 12, 13, 14, 15,
    ];
    let part = |index: usize| {
        bytes
            .get(index)
            .map_or_else(|| "-".to_owned(), |byte| format!("{byte:02x}"))
    };
    order.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as a partitioning tool writes it: one partition, 2048 to 4095, on a disk of 8192 sectors.
    fn head() -> Vec<u8> {
        let mut entries = vec![0; ENTRIES_MAX];
        entries[..16].fill(0xAF);
        entries[16..32].copy_from_slice(&[
            0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26,
            0x99, 0xc7,
        ]);
        entries[32..40].copy_from_slice(&2048_u64.to_le_bytes());
        entries[40..48].copy_from_slice(&4095_u64.to_le_bytes());
        let mut header = [0; 92];
        header[..8].copy_from_slice(SIGNATURE);
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        for (at, value) in [(24, 1_u64), (32, 8191), (40, 34), (48, 8158), (72, 2)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        header[88..92].copy_from_slice(&CHECKSUM.checksum(&entries).to_le_bytes());
        let mut table = Table {
            header,
            entries,
            entry_bytes: 128,
        };
        table.seal();
        [vec![0; SECTOR], table.primary()].concat()
    }

    #[test]
    fn partitions_and_guids_are_read() {
        let table = Table::parse(&head()).unwrap();
        let partitions: Vec<Partition> = table.partitions().collect();
        let guid = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7".to_owned();
        assert_eq!(
            partitions,
            [Partition {
                number: 1,
                guid,
                first_lba: 2048,
                last_lba: 4095
            }]
        );
    }

    #[test]
    fn any_damage_is_noticed() {
        let whole = head();
        for at in [
            SECTOR,
            SECTOR + 12,
            SECTOR + 16,
            SECTOR + 40,
            SECTOR + 84,
            2 * SECTOR + 41,
        ] {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            assert_eq!(Table::parse(&broken), None, "byte {at}");
        }
        for length in [0, SECTOR, 2 * SECTOR, whole.len() - 1] {
            assert_eq!(Table::parse(&whole[..length]), None, "length {length}");
        }
    }

    #[test]
    fn a_grown_table_is_whole_and_has_its_backup_at_the_end() {
        let table = Table::parse(&head()).unwrap();
        let grown = table.grown(1, 16_000, 20_000).unwrap();
        let read = Table::parse(&[vec![0; SECTOR], grown.primary()].concat()).unwrap();
        assert_eq!(read.partitions().next().unwrap().last_lba, 16_000);
        let (start, backup) = grown.backup().unwrap();
        assert_eq!((start, backup.len()), (19_967, 33 * SECTOR));
        let (entries, header) = backup.split_at(32 * SECTOR);
        let mirror = Table::from_parts(header, entries).unwrap();
        assert_eq!(
            (mirror.u64_at(24), mirror.u64_at(32)),
            (Some(19_999), Some(1))
        );
        assert_eq!(
            (mirror.u64_at(72), mirror.u64_at(48)),
            (Some(19_967), Some(19_966))
        );
    }

    #[test]
    fn it_neither_shrinks_nor_runs_over_the_backup() {
        let table = Table::parse(&head()).unwrap();
        assert_eq!(table.grown(1, 4094, 20_000), None);
        assert_eq!(table.grown(1, 19_967, 20_000), None);
        assert_eq!(table.grown(2, 5000, 20_000), None);
        assert_eq!(table.grown(1, 5000, 10), None);
    }
}
