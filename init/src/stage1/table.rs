//! The slot table on the disk; its rules are in [`gokrazy_core::slots`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use gokrazy_core::boot_disk::BootDisk;
use gokrazy_core::layout::{SECTOR_BYTES, SLOT_TABLE_BYTES, SLOT_TABLE_LBAS};
use gokrazy_core::slots::{Stored, Table, read_copies};

/// The table and where its next copy goes.
#[derive(Debug)]
pub(super) struct SlotTable {
    stored: Stored,
}

impl SlotTable {
    /// Reads both copies; `None` if neither is whole.
    pub(super) fn read(disk: &BootDisk) -> Result<Option<Self>> {
        if !disk.has_partitions() {
            return Ok(None);
        }
        let file =
            File::open(disk.node()).with_context(|| format!("open {}", disk.node().display()))?;
        let [first, second] = SLOT_TABLE_LBAS.map(|lba| read_copy(&file, lba));
        let (first, second) = (first?, second?);
        Ok(read_copies(&first, &second).map(|stored| Self { stored }))
    }

    /// The table as it lies on the disk.
    pub(super) fn current(&self) -> &Table {
        &self.stored.table
    }

    /// Writes `table` over the older copy, and waits for the disk; the other copy stays as it was.
    pub(super) fn write(&mut self, disk: &BootDisk, table: Table) -> Result<()> {
        let [first, second] = SLOT_TABLE_LBAS;
        let (lba, then) = if self.stored.next_copy == 0 {
            (first, 1)
        } else {
            (second, 0)
        };
        let file = OpenOptions::new()
            .write(true)
            .open(disk.node())
            .with_context(|| format!("open {}", disk.node().display()))?;
        file.write_all_at(&table.encode(), lba * SECTOR_BYTES)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("write {}", disk.node().display()))?;
        self.stored = Stored {
            table,
            next_copy: then,
        };
        Ok(())
    }
}

fn read_copy(file: &File, lba: u64) -> io::Result<Vec<u8>> {
    let mut copy = vec![0; SLOT_TABLE_BYTES];
    file.read_exact_at(&mut copy, lba * SECTOR_BYTES)?;
    Ok(copy)
}
