//! The slot table on the disk; its rules are in [`gokrazy_core::slots`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use gokrazy_core::boot_disk::BootDisk;
use gokrazy_core::layout::{SECTOR_BYTES, SLOT_TABLE_BYTES, SLOT_TABLE_LBAS};
use gokrazy_core::slots::{Stored, Table, read_copies};

use super::lasting;

/// The table, where its next copy goes, and the disk that it lies on.
#[derive(Debug)]
pub(super) struct SlotTable {
    stored: Stored,
    /// Held open, since the path to it is gone for a moment while the root is switched.
    file: File,
}

impl SlotTable {
    /// Reads both copies; `None` if neither is whole.
    ///
    /// # Errors
    /// The disk cannot be opened or read.
    pub(super) fn read(disk: &BootDisk) -> Result<Option<Self>> {
        if !disk.has_partitions() {
            return Ok(None);
        }
        let node = disk.node();
        let writable = OpenOptions::new().read(true).write(true).open(&node);
        // A card that is locked or worn out can still be booted from.
        let file = writable
            .or_else(|_| File::open(&node))
            .with_context(|| format!("open {}", node.display()))?;
        let [first, second] = SLOT_TABLE_LBAS.map(|lba| read_copy(&file, lba));
        // A copy that cannot be read is as good as a broken one.
        let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
        Ok(read_copies(&first, &second).map(|stored| Self { stored, file }))
    }

    /// The table by which this boot goes.
    pub(super) fn current(&self) -> &Table {
        &self.stored.table
    }

    /// Makes `table` the current one for this boot only.
    pub(super) fn set_aside(&mut self, table: Table) {
        self.stored.table = table;
    }

    /// Makes `table` the current one and writes it over the older copy; returns when it is on the disk. The other
    /// copy stays as it was. This boot goes by `table` even if the disk refuses it, so that it comes to an end.
    ///
    /// # Errors
    /// The errno of writing or syncing.
    pub(super) fn write(&mut self, table: Table) -> Result<()> {
        self.set_aside(table);
        let [first, second] = SLOT_TABLE_LBAS;
        let (lba, then) = if self.stored.next_copy == 0 {
            (first, 1)
        } else {
            (second, 0)
        };
        lasting::write(&self.file, &table.encode(), lba * SECTOR_BYTES)
            .context("write the slot table")?;
        self.stored.next_copy = then;
        Ok(())
    }
}

fn read_copy(file: &File, lba: u64) -> io::Result<Vec<u8>> {
    let mut copy = vec![0; SLOT_TABLE_BYTES];
    file.read_exact_at(&mut copy, lba * SECTOR_BYTES)?;
    Ok(copy)
}
