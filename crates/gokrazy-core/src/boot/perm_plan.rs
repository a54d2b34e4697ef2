//! What to do with the data partition, by its bytes; pure.

use crate::gpt::Table;
use crate::layout::{PERM_FIRST_LBA, PERM_NUMBER, SECTOR_BYTES, perm_sectors};

/// Bytes at the partition's start that [`Ext4::parse`] needs.
pub(super) const SUPERBLOCK_END: usize = 2048;

/// Facts of an ext4 superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ext4 {
    /// Size in blocks.
    pub(super) blocks: u64,
    /// Bytes of a block.
    pub(super) block_bytes: u64,
    /// Whether it is marked as damaged (`EXT4_ERROR_FS`).
    pub(super) is_damaged: bool,
    /// How many errors it noted since it was checked last.
    pub(super) errors: u32,
}

impl Ext4 {
    /// Reads the superblock out of the partition's first [`SUPERBLOCK_END`] bytes (`fs/ext4/ext4.h`); `None` if
    /// there is none.
    pub(super) fn parse(start: &[u8]) -> Option<Self> {
        let superblock = start.get(1024..SUPERBLOCK_END)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(*superblock.get(at..)?.first_chunk()?));
        if superblock.get(56..58)? != [0x53, 0xEF] {
            return None;
        }
        let state = u16::from_le_bytes(*superblock.get(58..)?.first_chunk()?);
        let log_block = u32_at(24)?;
        let has_64bit = u32_at(96)? & 0x80 != 0;
        let high = if has_64bit { u32_at(336)? } else { 0 };
        (log_block <= 6).then_some(Self {
            blocks: u64::from(high) << 32 | u64::from(u32_at(4)?),
            block_bytes: 1024 << log_block,
            is_damaged: state & 2 != 0,
            errors: u32_at(404)?,
        })
    }

    /// What it says of its own damage, for people; `None` if it knows of none.
    pub(super) fn damage(&self) -> Option<String> {
        let what = match self.errors {
            0 if !self.is_damaged => return None,
            0 => "it is marked as damaged".to_owned(),
            1 => "it has noted an error".to_owned(),
            many => format!("it has noted {many} errors"),
        };
        Some(format!(
            "/perm is in use, but {what}: keep a copy of what matters, and let e2fsck repair it on another machine"
        ))
    }

    /// The size in blocks that fills a partition of `sectors`; `None` if it does already.
    pub(super) fn grown(&self, sectors: u64) -> Option<u64> {
        let wanted = sectors
            .checked_mul(SECTOR_BYTES)?
            .checked_div(self.block_bytes)?;
        (wanted > self.blocks).then_some(wanted)
    }
}

/// The table with the data partition up to the disk's end, and its new length in sectors; `None` if there is
/// nothing to grow, the disk is not laid out as ours, or somebody has put another partition behind it.
pub(super) fn grown_table(table: &Table, disk_sectors: u64) -> Option<(Table, u64)> {
    let perm = table
        .partitions()
        .find(|partition| partition.number == PERM_NUMBER)?;
    let sectors = perm_sectors(disk_sectors)?;
    let last = perm.first_lba.checked_add(sectors)?.checked_sub(1)?;
    if perm.first_lba != PERM_FIRST_LBA || last <= perm.last_lba {
        return None;
    }
    Some((table.grown(PERM_NUMBER, last, disk_sectors)?, sectors))
}

/// What to write for `table`, each a position in sectors and the bytes, in this order and each synced.
///
/// At any moment one copy is whole: while the backup at the disk's new end is being written, the primary; while the
/// primary is, that backup, which the kernel (told `gpt` on its command line) and we look for at the disk's end.
/// A damaged primary is put right first, since the other copy is then the only whole one.
pub(super) fn table_writes(table: &Table, primary_is_whole: bool) -> Option<[(u64, Vec<u8>); 2]> {
    let primary = (1, table.primary());
    let backup = table.backup()?;
    Some(if primary_is_whole {
        [backup, primary]
    } else {
        [primary, backup]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpt::TAIL_SECTORS;

    fn superblock(blocks: u64, log_block: u32) -> Vec<u8> {
        let mut start = vec![0; SUPERBLOCK_END];
        let fields = [
            (4, blocks as u32),
            (24, log_block),
            (96, 0x80),
            (336, (blocks >> 32) as u32),
        ];
        for (at, value) in fields {
            start[1024 + at..1024 + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        start[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xEF]);
        start
    }

    #[test]
    fn damage_is_told() {
        for (state, errors, want) in [
            (1, 0, None),
            (3, 0, Some("marked as damaged")),
            (3, 1, Some("noted an error")),
            (1, 7, Some("noted 7 errors")),
        ] {
            let mut start = superblock(1000, 2);
            start[1024 + 58] = state;
            start[1024 + 404] = errors;
            let told = Ext4::parse(&start).unwrap().damage();
            assert_eq!(told.is_some(), want.is_some(), "{state} {errors}");
            assert!(want.is_none_or(|words| told.unwrap().contains(words)));
        }
    }

    #[test]
    fn the_size_is_read_and_compared() {
        let ext4 = Ext4::parse(&superblock(1 << 33, 2)).unwrap();
        assert_eq!(
            ext4,
            Ext4 {
                blocks: 1 << 33,
                block_bytes: 4096,
                is_damaged: false,
                errors: 0,
            }
        );
        let small = Ext4 {
            blocks: 1000,
            ..ext4
        };
        assert_eq!(small.grown(8000), None);
        assert_eq!(small.grown(8007), None);
        assert_eq!(small.grown(8008), Some(1001));
    }

    #[test]
    fn what_is_no_ext4_is_not_touched() {
        assert_eq!(Ext4::parse(&[0; SUPERBLOCK_END]), None);
        assert_eq!(Ext4::parse(&superblock(10, 40)), None);
        assert_eq!(Ext4::parse(&superblock(10, 2)[..1100]), None);
        assert_eq!(Ext4::parse(&[]), None);
    }

    /// The last sector of the data partition, by whichever copy is whole.
    fn perm_end(disk: &[u8], whole: Option<&Table>) -> Option<u64> {
        let sectors = disk.len() as u64 / SECTOR_BYTES;
        let tail = &disk[disk.len() - (TAIL_SECTORS * SECTOR_BYTES) as usize..];
        let backup = Table::parse_backup(tail, sectors);
        let table = whole.or(backup.as_ref())?;
        let partitions: Vec<_> = table.partitions().collect();
        assert_eq!((partitions.len(), partitions[2].last_lba), (4, 127));
        Some(partitions[3].last_lba)
    }

    /// The power is cut after each sector that is written, in either order within a write, and the sector that is
    /// being written then holds garbage: the old table or the new one is found.
    #[test]
    fn a_power_cut_at_any_sector_leaves_a_table() {
        const SECTORS: usize = 512;
        let rows = [(40, 63), (64, 95), (96, 127), (128, 150)];
        // The card is larger than the image, so the old backup is not at its end.
        let mut before = crate::gpt::tests::sample_head(&rows, 256);
        before.resize(SECTORS * 512, 0);
        let new = Table::parse(&before)
            .unwrap()
            .grown(4, 400, SECTORS as u64)
            .unwrap();
        let mut found = std::collections::BTreeSet::new();
        for backwards in [false, true] {
            let mut disk = before.clone();
            for (lba, bytes) in table_writes(&new, true).unwrap() {
                let mut sectors: Vec<_> = bytes.chunks(512).zip(lba as usize..).collect();
                if backwards {
                    sectors.reverse();
                }
                for (sector, lba) in sectors {
                    disk[lba * 512..][..512].fill(0xA5);
                    found.insert(perm_end(&disk, Table::parse(&disk).as_ref()).unwrap());
                    disk[lba * 512..][..512].copy_from_slice(sector);
                    found.insert(perm_end(&disk, Table::parse(&disk).as_ref()).unwrap());
                }
            }
            assert_eq!(Table::parse(&disk), Some(new.clone()));
            assert_eq!(perm_end(&disk, None), Some(400));
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [150, 400]);
    }

    #[test]
    fn a_damaged_primary_is_mended_while_the_backup_is_the_only_whole_copy() {
        let rows = [(40, 63), (64, 95), (96, 127), (128, 150)];
        let table = Table::parse(&crate::gpt::tests::sample_head(&rows, 512)).unwrap();
        let first = |whole| table_writes(&table, whole).unwrap()[0].0;
        assert_eq!((first(true), first(false)), (479, 1));
    }

    #[test]
    fn only_a_disk_of_our_layout_grows() {
        let disk_sectors = PERM_FIRST_LBA + 8 * 2048;
        let with = |first, last| {
            let rows = [(40, 63), (64, 95), (96, 127), (first, last)];
            let head = crate::gpt::tests::sample_head(&rows, disk_sectors);
            grown_table(&Table::parse(&head).unwrap(), disk_sectors).map(|(_, sectors)| sectors)
        };
        // Seven whole MiB and the backup fit.
        assert_eq!(with(PERM_FIRST_LBA, PERM_FIRST_LBA + 2047), Some(7 * 2048));
        assert_eq!(
            with(PERM_FIRST_LBA, PERM_FIRST_LBA + 7 * 2048 - 1),
            None,
            "it fills the disk"
        );
        assert_eq!(
            with(PERM_FIRST_LBA + 8, PERM_FIRST_LBA + 2047),
            None,
            "another layout"
        );
    }

    #[test]
    fn a_partition_that_somebody_put_behind_it_is_not_grown_over() {
        let disk_sectors = PERM_FIRST_LBA + 8 * 2048;
        let perm = (PERM_FIRST_LBA, PERM_FIRST_LBA + 2047);
        let own = (PERM_FIRST_LBA + 6 * 2048, PERM_FIRST_LBA + 7 * 2048 - 1);
        let rows = [(40, 63), (64, 95), (96, 127), perm, own];
        let head = crate::gpt::tests::sample_head(&rows, disk_sectors);
        assert_eq!(
            grown_table(&Table::parse(&head).unwrap(), disk_sectors),
            None
        );
    }
}
