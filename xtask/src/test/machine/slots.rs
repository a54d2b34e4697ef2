//! Two slots, and a table that chooses: what breaks one leaves the other.
//!
//! Slot B is made here from slot A, in the places that the layout and the builder give it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::layout::{ROOT_A, ROOT_B, SECTOR_BYTES, SLOT_TABLE_BYTES, SLOT_TABLE_LBAS};
use gokrazy_core::slots::{SlotName, SlotState, Table, read_copies};
use serde_json::Value;

use super::Steps;
use super::lab::{Lab, text};
use super::parts;
use crate::image::root_id;
use crate::process;
use crate::vm::disk::Disk;
use crate::vm::ext4;
use crate::vm::guest::Ending;

/// Bytes at the head of a root that are broken.
const BROKEN: usize = 1024 * 1024;

/// The GUID of no partition.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// How long a machine may take until it starts a slot.
const LIMIT: Duration = Duration::from_secs(300);

/// Two good slots, and the preferred one's root is broken: the other comes up, and the table remembers.
pub(super) fn broken_root(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    install_b(lab)?;
    let zeros = vec![0; BROKEN];
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
    nothing_can_be_noted(lab, steps)
}

/// The table asks for the broken slot and cannot be written, so that neither kernel can tell the other what it met: the
/// one that runs stays.
fn nothing_can_be_noted(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    put_table(lab.disk(), |table| Table {
        preferred: SlotName::A,
        ..table.with(SlotName::A, SlotState::Good)
    })?;
    let mut guest = lab.power_on_with_faults(&SLOT_TABLE_LBAS)?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    ensure!(
        text(&status, "Slot") == "b" && text(&status, "Fallback").contains("cannot be noted"),
        "with a table that cannot be written: {status}"
    );
    steps.passed("two kernels do not send the machine to each other where nothing can be noted");
    lab.end_by(guest, "/poweroff", Ending::PowerOff).map(drop)
}

/// A trial slot is counted down on the disk before each start, by whichever copy of the table is whole, and is bad at
/// the end; on the way the other slot lacks ntp.
pub(super) fn trial(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    without_its_disk(lab, steps)?;
    parts::root_without(lab, ROOT_B, &["gokrazy/ntp"])?;
    put_table(lab.disk(), |table| {
        let trial = SlotState::Trial { attempts_left: 2 };
        table
            .with(SlotName::A, trial)
            .with(SlotName::B, SlotState::Good)
    })?;
    let [first, second] = SLOT_TABLE_LBAS;
    for (broken, attempts_left) in [(first, 1), (second, 0)] {
        break_copy(lab.disk(), broken)?;
        let guest = lab.power_on()?;
        guest
            .console()
            .wait_for("gokrazy: starting slot a, attempt", LIMIT)?;
        guest.cut_power();
        let table = table(lab.disk())?.context("a whole slot table")?;
        ensure!(
            table.a == SlotState::Trial { attempts_left },
            "slot a is {} with its attempt under way",
            table.a
        );
    }
    steps.passed(
        "each attempt is on the disk before it begins, with either copy of the table broken",
    );
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    ensure!(
        text(&status, "Slot") == "b" && !text(&status, "Fallback").is_empty(),
        "after the last attempt: {status}"
    );
    parts::others_run(lab, &mut guest, "ntp")?;
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    let table = table(lab.disk())?.context("a whole slot table")?;
    ensure!(table.a == SlotState::Bad, "slot a is {}", table.a);
    steps.passed("after the last one it is bad, and the other slot runs, also without ntp");
    Ok(())
}

/// A kernel that the firmware starts on trial, and that does not find its disk, gives way: the firmware takes the one
/// that it had, as the next boots show.
fn without_its_disk(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let device = boot_partition(lab);
    let entry = lab.scratch("entry.conf");
    let from = "::/loader/entries/gokrazy-a.conf";
    process::capture(
        Command::new("mcopy")
            .args(["-n", "-i", &device, from])
            .arg(&entry),
    )?;
    let text = fs::read_to_string(&entry).with_context(|| format!("read {}", entry.display()))?;
    let absent = text.replace(&root_id(lab.hostname(), SlotName::A).to_string(), NOBODY);
    ensure!(absent != text, "the entry names no root: {text}");
    write(&entry, &format!("{} rootwait=6\n", absent.trim_end()))?;
    // It counts one attempt, and its name comes before that of the other one.
    let to = "::/loader/entries/gokrazy-b+1.conf";
    process::capture(
        Command::new("mcopy")
            .args(["-i", &device])
            .arg(&entry)
            .arg(to),
    )?;
    let mut guest = lab.power_on()?;
    for words in [
        "the firmware starts this kernel on trial",
        "not there after 6 s",
    ] {
        guest.console().wait_for(words, LIMIT)?;
    }
    let ending = guest.wait_for_end(LIMIT)?;
    ensure!(ending == Ending::Reboot, "it ended by {ending:?}");
    steps.passed("a kernel on trial that finds no disk starts the machine anew");
    Ok(())
}

/// A root that has no modules for the kernel gives way to the other one, which lacks randomd, although that one is
/// noted as bad: there is no third, so the first one is not noted as bad too.
/// On a card of exactly the image's size, so that `/perm` stays as it was made.
pub(super) fn no_modules(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    parts::root_without(lab, ROOT_B, &["gokrazy/randomd"])?;
    parts::root_without(lab, ROOT_A, &["lib/modules"])?;
    let perm = ext4::bytes(lab.disk())?;
    put_table(lab.disk(), |table| table.with(SlotName::B, SlotState::Bad))?;
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    let words = "has no modules for kernel";
    ensure!(
        text(&status, "Slot") == "b" && text(&status, "Fallback").contains(words),
        "it runs, and says: {status}"
    );
    guest.console().wait_for(words, LIMIT)?;
    steps.passed("the other slot comes up, and console and status tell why");
    parts::others_run(lab, &mut guest, "randomd")?;
    steps.passed("it does without randomd");
    ensure!(
        status.get("PermProblem").is_none_or(Value::is_null),
        "a card of the image's size has no /perm: {status}"
    );
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    let after = ext4::bytes(lab.disk())?;
    ensure!(after == perm, "/perm had {perm} bytes, and has {after}");
    ensure!(
        !ext4::names(lab.disk(), "/")?.is_empty(),
        "/perm is empty after a boot"
    );
    ext4::check(lab.disk())?;
    steps.passed("on a card of the image's size /perm is used as it is");
    let table = table(lab.disk())?.context("a whole slot table")?;
    ensure!(
        (table.a, table.b) == (SlotState::Good, SlotState::Bad),
        "the table is {table:?}"
    );
    steps.passed("a slot that was noted as bad is better than none, and the last one is not noted");
    Ok(())
}

/// The table asks for a slot whose kernel is not there; then both copies of the table are gone, and the command line
/// says what to boot.
pub(super) fn no_table(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    put_table(lab.disk(), |table| Table {
        preferred: SlotName::B,
        ..table.with(SlotName::B, SlotState::Good)
    })?;
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    let words = "has no kernel B/vmlinuz";
    ensure!(
        text(&status, "Slot") == "a" && text(&status, "Fallback").contains(words),
        "with a slot without a kernel: {status}"
    );
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    steps.passed("the firmware is not told to take a kernel that is not there");
    for lba in SLOT_TABLE_LBAS {
        break_copy(lab.disk(), lba)?;
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
    parts::copy_root(lab.disk())?;
    copy_kernel_folder(lab)?;
    put_table(lab.disk(), |table| table.with(SlotName::B, SlotState::Good))
}

/// Changes both copies of the table.
pub(super) fn put_table(disk: &Disk, change: impl FnOnce(Table) -> Table) -> Result<()> {
    let table = change(table(disk)?.context("a slot table in the image")?).next();
    for lba in SLOT_TABLE_LBAS {
        disk.write(lba * SECTOR_BYTES, &table.encode())?;
    }
    Ok(())
}

fn break_copy(disk: &Disk, lba: u64) -> Result<()> {
    disk.write(lba * SECTOR_BYTES, &[0xa5; SLOT_TABLE_BYTES])
}

/// How mtools name the boot partition inside the disk.
fn boot_partition(lab: &Lab<'_>) -> String {
    format!(
        "{}@@{}",
        lab.disk().path().display(),
        gokrazy_core::layout::BOOT.first_lba * SECTOR_BYTES
    )
}

fn copy_kernel_folder(lab: &Lab<'_>) -> Result<()> {
    let folder = lab.scratch("slot-b");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let device = boot_partition(lab);
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
