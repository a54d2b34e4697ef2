//! Where things lie on the disk: final from release 1, since every later change costs each user a card; pure.
//!
//! All positions are in sectors of 512 bytes (LBA), sizes too unless a name says otherwise.

/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;

/// The two copies of the slot table, written alternately ([`crate::slots`]).
pub const SLOT_TABLE_LBAS: [u64; 2] = [4096, 4104];

/// Bytes of one copy of the slot table.
pub const SLOT_TABLE_BYTES: usize = 4096;

/// A partition's number, first sector and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Partition number, from 1.
    pub number: u32,
    /// First sector.
    pub first_lba: u64,
    /// Length in sectors.
    pub sectors: u64,
}

impl Extent {
    /// The first sector behind the partition.
    pub const fn end_lba(&self) -> u64 {
        self.first_lba + self.sectors
    }
}

const MIB: u64 = 1024 * 1024 / SECTOR_BYTES;

/// FAT: firmware, `config.txt`, kernel slots `A/` and `B/`, or systemd-boot and its entries. 256 MiB.
pub const BOOT: Extent = Extent {
    number: 1,
    first_lba: 8192,
    sectors: 256 * MIB,
};

/// The root file system of slot A (squashfs). 512 MiB.
pub const ROOT_A: Extent = Extent {
    number: 2,
    first_lba: BOOT.end_lba(),
    sectors: 512 * MIB,
};

/// The root file system of slot B (squashfs). 512 MiB.
pub const ROOT_B: Extent = Extent {
    number: 3,
    first_lba: ROOT_A.end_lba(),
    sectors: 512 * MIB,
};

/// Number of the data partition (ext4), which takes the rest of the disk.
pub const PERM_NUMBER: u32 = 4;

/// First sector of the data partition.
pub const PERM_FIRST_LBA: u64 = ROOT_B.end_lba();

/// Sectors at the disk's end that the backup GPT takes: 32 of entries, one header.
pub const BACKUP_GPT_SECTORS: u64 = 33;

/// The data partition's length on a disk of `disk_sectors`: up to the backup GPT, in whole MiB so that the
/// file system's blocks fit; `None` if the disk ends before the partition could hold 1 MiB.
pub fn perm_sectors(disk_sectors: u64) -> Option<u64> {
    let room = disk_sectors
        .checked_sub(PERM_FIRST_LBA)?
        .checked_sub(BACKUP_GPT_SECTORS)?;
    let whole = room / MIB * MIB;
    (whole > 0).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        assert_eq!(ROOT_A.first_lba, 532_480);
        assert_eq!(ROOT_B.first_lba, 1_581_056);
        assert_eq!(PERM_FIRST_LBA, 2_629_632);
    }

    #[test]
    fn the_slot_table_lies_before_the_boot_partition_and_its_copies_apart() {
        let sectors = SLOT_TABLE_BYTES as u64 / SECTOR_BYTES;
        assert!(SLOT_TABLE_LBAS[0] >= 34, "behind the primary GPT");
        assert!(SLOT_TABLE_LBAS[0] + sectors <= SLOT_TABLE_LBAS[1]);
        assert!(SLOT_TABLE_LBAS[1] + sectors <= BOOT.first_lba);
    }

    #[test]
    fn perm_takes_the_rest_in_whole_mib() {
        assert_eq!(perm_sectors(PERM_FIRST_LBA), None);
        assert_eq!(perm_sectors(PERM_FIRST_LBA + 33 + 2047), None);
        assert_eq!(perm_sectors(PERM_FIRST_LBA + 33 + 2048), Some(2048));
        assert_eq!(
            perm_sectors(4 * 1024 * 1024 * 1024 / 512),
            Some(2811 * 2048)
        );
    }
}
