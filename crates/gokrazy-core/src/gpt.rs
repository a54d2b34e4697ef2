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

/// Sectors at the disk's end that hold the backup: entries, then the header.
pub const TAIL_SECTORS: u64 = 33;

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

    /// Reads the backup table, for a disk whose primary one is damaged; `None` if there is none or a checksum is
    /// wrong. What comes back is the primary table that belongs there.
    ///
    /// `tail` is the end of a disk of `disk_sectors`, [`TAIL_SECTORS`] long.
    pub fn parse_backup(tail: &[u8], disk_sectors: u64) -> Option<Self> {
        let own = disk_sectors.checked_sub(1)?;
        let tail_lba = disk_sectors.checked_sub(TAIL_SECTORS)?;
        let (entries, header_sector) = tail.split_last_chunk::<SECTOR>()?;
        let lba_at = |at: usize| {
            let bytes = *header_sector.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(bytes))
        };
        if lba_at(24)? != own || lba_at(32)? != 1 {
            return None;
        }
        let skipped = usize::try_from(lba_at(72)?.checked_sub(tail_lba)?).ok()?;
        let entries = entries.get(skipped.checked_mul(SECTOR)?..)?;
        let mut table = Self::from_parts(header_sector, entries)?;
        table.place(1, own, 2)?;
        Some(table)
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
    /// partition does not exist, would shrink, or would run into another one or into the backup table.
    #[must_use]
    pub fn grown(&self, number: u32, last_lba: u64, disk_sectors: u64) -> Option<Self> {
        let old = self
            .partitions()
            .find(|partition| partition.number == number)?;
        let last_usable = disk_sectors.checked_sub(HEAD_SECTORS)?;
        let is_in_the_way = |other: &Partition| {
            other.number != number && other.first_lba <= last_lba && other.last_lba >= old.first_lba
        };
        if last_lba < old.last_lba
            || last_lba > last_usable
            || self.partitions().any(|other| is_in_the_way(&other))
        {
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
        table.put(48, &last_usable.to_le_bytes())?;
        let checksum = CHECKSUM.checksum(&table.entries);
        table.put(88, &checksum.to_le_bytes())?;
        table.place(1, disk_sectors.checked_sub(1)?, 2)?;
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
        mirror.place(own, 1, start)?;
        let mut bytes = mirror.entries;
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        bytes.extend_from_slice(&mirror.header);
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Some((start, bytes))
    }

    /// Says where this copy, the other one and the entries lie, and seals the header.
    fn place(&mut self, own: u64, other: u64, entries: u64) -> Option<()> {
        self.put(24, &own.to_le_bytes())?;
        self.put(32, &other.to_le_bytes())?;
        self.put(72, &entries.to_le_bytes())?;
        let checksum = self.header_checksum();
        self.put(16, &checksum.to_le_bytes())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        let field = self.header.get_mut(at..)?.get_mut(..bytes.len())?;
        field.copy_from_slice(bytes);
        Some(())
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
pub(crate) mod tests {
    use super::*;

    /// A disk's start as a partitioning tool writes it, with partitions from and to these sectors.
    pub(crate) fn sample_head(partitions: &[(u64, u64)], disk_sectors: u64) -> Vec<u8> {
        let mut entries = vec![0; ENTRIES_MAX];
        for ((first, last), entry) in partitions.iter().zip(entries.chunks_exact_mut(128)) {
            entry[..16].fill(0xAF);
            entry[16..32].copy_from_slice(&[
                0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26,
                0x99, 0xc7,
            ]);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
        }
        let mut header = [0; 92];
        header[..8].copy_from_slice(SIGNATURE);
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        header[40..48].copy_from_slice(&34_u64.to_le_bytes());
        header[48..56].copy_from_slice(&(disk_sectors - 34).to_le_bytes());
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        header[88..92].copy_from_slice(&CHECKSUM.checksum(&entries).to_le_bytes());
        let mut table = Table {
            header,
            entries,
            entry_bytes: 128,
        };
        table.place(1, disk_sectors - 1, 2).unwrap();
        [vec![0; SECTOR], table.primary()].concat()
    }

    fn head() -> Vec<u8> {
        sample_head(&[(2048, 4095)], 8192)
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
    fn the_backup_stands_in_for_a_damaged_primary() {
        let grown = Table::parse(&head())
            .unwrap()
            .grown(1, 16_000, 20_000)
            .unwrap();
        let (_, tail) = grown.backup().unwrap();
        assert_eq!(Table::parse_backup(&tail, 20_000), Some(grown));
        // The disk became larger, so this is not where its backup lies.
        assert_eq!(Table::parse_backup(&tail, 20_001), None);
        for length in [0, 100, SECTOR, tail.len() - 1] {
            assert_eq!(
                Table::parse_backup(&tail[..length], 20_000),
                None,
                "{length}"
            );
        }
        for at in [41, 32 * SECTOR + 24, 32 * SECTOR + 72, 32 * SECTOR + 88] {
            let mut broken = tail.clone();
            broken[at] ^= 1;
            assert_eq!(Table::parse_backup(&broken, 20_000), None, "byte {at}");
        }
    }

    #[test]
    fn it_neither_shrinks_nor_runs_over_the_backup() {
        let table = Table::parse(&head()).unwrap();
        assert_eq!(table.grown(1, 4094, 20_000), None);
        assert_eq!(table.grown(1, 19_967, 20_000), None);
        assert_eq!(table.grown(2, 5000, 20_000), None);
        assert_eq!(table.grown(1, 5000, 10), None);
    }

    #[test]
    fn it_does_not_grow_into_another_partition() {
        let rows = [(2048, 4095), (6000, 6999)];
        let table = Table::parse(&sample_head(&rows, 8192)).unwrap();
        assert!(table.grown(1, 5999, 8192).is_some());
        assert_eq!(table.grown(1, 6000, 8192), None);
        assert_eq!(table.grown(1, 8000, 8192), None);
        assert!(
            table.grown(2, 8000, 8192).is_some(),
            "what lies before is not in the way"
        );
    }
}
