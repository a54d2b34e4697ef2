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
        let log_block = u32_at(24)?;
        let has_64bit = u32_at(96)? & 0x80 != 0;
        let high = if has_64bit { u32_at(336)? } else { 0 };
        (log_block <= 6).then_some(Self {
            blocks: u64::from(high) << 32 | u64::from(u32_at(4)?),
            block_bytes: 1024 << log_block,
        })
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
/// nothing to grow, or the disk is not laid out as ours.
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_size_is_read_and_compared() {
        let ext4 = Ext4::parse(&superblock(1 << 33, 2)).unwrap();
        assert_eq!(
            ext4,
            Ext4 {
                blocks: 1 << 33,
                block_bytes: 4096
            }
        );
        let small = Ext4 {
            blocks: 1000,
            block_bytes: 4096,
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
}
