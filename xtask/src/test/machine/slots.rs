//! Two slots, and a table that chooses: what breaks one leaves the other.
//!
//! Slot B is made here from slot A, in the places that the layout and the builder give it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gokrazy_core::layout::{ROOT_A, ROOT_B, SECTOR_BYTES, SLOT_TABLE_BYTES, SLOT_TABLE_LBAS};
use gokrazy_core::slots::{SlotName, SlotState, Table, read_copies};

use super::Steps;
use super::lab::{Lab, text};
use crate::image::root_id;
use crate::process;
use crate::vm::disk::Disk;
use crate::vm::guest::Ending;

/// Where a squashfs superblock has the file system's length, and how long that number is.
const SQUASHFS_LENGTH: (u64, usize) = (40, 8);

/// Bytes copied at a time.
const PIECE: u64 = 1024 * 1024;

/// Two good slots, and the preferred one's root is broken: the other comes up, and the table remembers.
pub(super) fn broken_root(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    install_b(lab)?;
    let zeros = vec![0; PIECE as usize];
    lab.disk().write(ROOT_A.first_lba * SECTOR_BYTES, &zeros)?;
    let mut guest = lab.power_on()?;
    lab.first_answer_over_reboots(&mut guest)?;
    let status = lab.status()?;
    ensure!(
        text(&status, "Slot") == "b",
        "it runs slot {}",
        text(&status, "Slot")
    );
    ensure!(
        !text(&status, "Fallback").is_empty(),
        "its status does not tell why: {status}"
    );
    steps.passed("the other slot comes up, and the status tells why");
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    let table = table(lab.disk())?.context("a whole slot table")?;
    ensure!(table.a == SlotState::Bad, "slot a is {}", table.a);
    ensure!(
        table.b == SlotState::Good && table.preferred == SlotName::B,
        "the table is {table:?}"
    );
    steps.passed("the table remembers which slot is bad");
    Ok(())
}

/// Both copies of the table are gone: the command line says what to boot.
pub(super) fn no_table(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    for lba in SLOT_TABLE_LBAS {
        lab.disk()
            .write(lba * SECTOR_BYTES, &[0xa5; SLOT_TABLE_BYTES])?;
    }
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    lab.status()?;
    let lines = lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    ensure!(
        lines.iter().any(|line| line.contains("slot table")),
        "the console does not tell of the slot table"
    );
    steps.passed("it comes up by its command line, and the console tells of the table");
    Ok(())
}

fn table(disk: &Disk) -> Result<Option<Table>> {
    let [first, second] =
        SLOT_TABLE_LBAS.map(|lba| disk.read(lba * SECTOR_BYTES, SLOT_TABLE_BYTES));
    Ok(read_copies(&first?, &second?).map(|stored| stored.table))
}

/// Makes slot B of slot A: root, kernel folder with its own command line, table.
fn install_b(lab: &Lab<'_>) -> Result<()> {
    copy_root(lab.disk())?;
    copy_kernel_folder(lab)?;
    let table = table(lab.disk())?.context("a slot table in the image")?;
    let table = table.with(SlotName::B, SlotState::Good).next();
    for lba in SLOT_TABLE_LBAS {
        lab.disk().write(lba * SECTOR_BYTES, &table.encode())?;
    }
    Ok(())
}

fn copy_root(disk: &Disk) -> Result<()> {
    let (from, to) = (
        ROOT_A.first_lba * SECTOR_BYTES,
        ROOT_B.first_lba * SECTOR_BYTES,
    );
    let (at, length) = SQUASHFS_LENGTH;
    let bytes: [u8; 8] = disk.read(from + at, length)?.try_into().unwrap_or_default();
    let length = u64::from_le_bytes(bytes);
    ensure!(
        length > 0 && length <= ROOT_A.sectors * SECTOR_BYTES,
        "root A is no squashfs"
    );
    for offset in (0..length).step_by(PIECE as usize) {
        disk.write(to + offset, &disk.read(from + offset, PIECE as usize)?)?;
    }
    Ok(())
}

fn copy_kernel_folder(lab: &Lab<'_>) -> Result<()> {
    let folder = lab.scratch("slot-b");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let device = format!(
        "{}@@{}",
        lab.disk().path().display(),
        gokrazy_core::layout::BOOT.first_lba * SECTOR_BYTES
    );
    process::capture(
        Command::new("mcopy")
            .args(["-s", "-n", "-i", &device, "::/A"])
            .arg(&folder),
    )?;
    let (a, b) = (folder.join("A"), folder.join("B"));
    process::capture(Command::new("mv").arg(&a).arg(&b))?;
    let path = b.join("cmdline.txt");
    let line = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let id = |slot| root_id(lab.hostname(), slot).to_string();
    let changed = line
        .replace(&id(SlotName::A), &id(SlotName::B))
        .replace("gokrazy.slot=a", "gokrazy.slot=b");
    ensure!(changed != line, "the command line names no slot: {line}");
    write(&path, &changed)?;
    process::capture(
        Command::new("mcopy")
            .args(["-s", "-o", "-i", &device])
            .arg(&b)
            .arg("::/"),
    )
    .map(drop)
}

#[expect(
    clippy::disallowed_methods,
    reason = "mcopy reads it only after we have written it"
)]
fn write(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
