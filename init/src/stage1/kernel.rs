//! Tells the Pi's firmware which kernel to take: one byte in `config.txt`, written in place with its sector.
//!
//! The file stays where it lies and as long as it is, so a power cut leaves the old line or the new one.
//! Mounting the partition and replacing the file would touch its folder and allocation table too.
//! A folder without a kernel is never named: the firmware would fall back to the partition's root, find none there
//! either, and stop for good.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, anyhow, bail};
use gokrazy_core::boot_disk::BootDisk;
use gokrazy_core::fat;
use gokrazy_core::layout::{BOOT, SECTOR_BYTES};
use gokrazy_core::slots::SlotName;

use super::lasting;

/// What the firmware reads first.
const CONFIG: &str = "CONFIG.TXT";

/// The kernel's name unless `kernel=` says otherwise (config.txt documentation, for 64 bits).
const KERNEL: &str = "kernel8.img";

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    /// The firmware will take the other kernel at its next start.
    Changed,
    /// It had been told so before.
    Already,
}

/// Makes `config.txt` name the kernel folder of `slot`, on the disk when the call returns.
pub(super) fn select(disk: &BootDisk, slot: SlotName) -> Result<Selected> {
    let node = disk.node();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&node)
        .with_context(|| format!("open {}", node.display()))?;
    let start = disk
        .start_of(BOOT.number)
        .ok_or_else(|| anyhow!("there is no boot partition"))?;
    let found =
        fat::find(&mut file, start, CONFIG).with_context(|| format!("look for {CONFIG}"))?;
    let found = found.ok_or_else(|| {
        anyhow!("the boot partition has no {CONFIG}: this firmware is told otherwise")
    })?;
    let length = usize::try_from(u64::from(found.bytes).min(SECTOR_BYTES)).unwrap_or(0);
    let mut sector = vec![0; usize::try_from(SECTOR_BYTES).unwrap_or(512)];
    file.read_exact_at(&mut sector, found.offset)
        .with_context(|| format!("read {CONFIG}"))?;
    match edit(&mut sector, length, slot) {
        None => bail!("the first 512 bytes of {CONFIG} have no line os_prefix=A/ or os_prefix=B/"),
        Some(Selected::Already) => return Ok(Selected::Already),
        Some(Selected::Changed) => {}
    }
    let text = sector.get(..length).unwrap_or_default();
    check_kernel(&mut file, start, &kernel_path(text, slot))?;
    lasting::write(&file, &sector, found.offset).with_context(|| format!("write {CONFIG}"))?;
    Ok(Selected::Changed)
}

/// Where the firmware will look for the slot's kernel, by this text of `config.txt`.
fn kernel_path(text: &[u8], slot: SlotName) -> String {
    let text = String::from_utf8_lossy(text);
    let mut named = text.lines().filter_map(|line| line.strip_prefix("kernel="));
    let name = named.next_back().unwrap_or(KERNEL);
    format!("{}/{}", slot.kernel_folder(), name.trim())
}

/// Refuses a kernel that is not there; one with a long name cannot be looked for, and is taken at its word.
fn check_kernel(file: &mut File, start: u64, path: &str) -> Result<()> {
    match fat::find(file, start, path) {
        Ok(Some(kernel)) if kernel.bytes > 0 => Ok(()),
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        Ok(_) => bail!("the boot partition has no kernel {path}"),
        Err(error) => Err(error).with_context(|| format!("look for {path}")),
    }
}

/// Changes the folder's letter in the last `os_prefix` line, the one that counts; `None` if there is no such line.
fn edit(sector: &mut [u8], length: usize, slot: SlotName) -> Option<Selected> {
    const KEY: &[u8] = b"os_prefix=";
    let text = sector.get(..length)?;
    let line_at = |at: usize| at == 0 || text.get(at.wrapping_sub(1)) == Some(&b'\n');
    let key = text
        .windows(KEY.len())
        .enumerate()
        .rev()
        .find(|(at, window)| *window == KEY && line_at(*at))?
        .0;
    let at = key.checked_add(KEY.len())?;
    let [now @ (b'A' | b'B'), b'/', ..] = text.get(at..)? else {
        return None;
    };
    let wanted = *slot.kernel_folder().as_bytes().first()?;
    if *now == wanted {
        return Some(Selected::Already);
    }
    *sector.get_mut(at)? = wanted;
    Some(Selected::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, slot: SlotName, want: Option<(Selected, &str)>) {
        let mut sector = text.as_bytes().to_vec();
        let length = sector.len();
        let got = edit(&mut sector, length, slot);
        let got = got.map(|selected| (selected, String::from_utf8(sector).unwrap()));
        assert_eq!(
            got,
            want.map(|(selected, text)| (selected, text.to_owned()))
        );
    }

    #[test]
    fn one_letter_changes() {
        let text = "# os_prefix=A/\nos_prefix=A/\narm_64bit=1\n";
        check(
            text,
            SlotName::B,
            Some((
                Selected::Changed,
                "# os_prefix=A/\nos_prefix=B/\narm_64bit=1\n",
            )),
        );
        check(text, SlotName::A, Some((Selected::Already, text)));
    }

    #[test]
    fn the_last_line_counts() {
        let want = "os_prefix=A/\nos_prefix=A/\n";
        check(
            "os_prefix=A/\nos_prefix=B/\n",
            SlotName::A,
            Some((Selected::Changed, want)),
        );
    }

    #[test]
    fn the_kernel_is_where_the_firmware_looks_for_it() {
        let path = |text: &str| kernel_path(text.as_bytes(), SlotName::B);
        assert_eq!(
            path("os_prefix=A/\nkernel=old\nkernel=vmlinuz\r\n"),
            "B/vmlinuz"
        );
        assert_eq!(path("# kernel=x\n"), "B/kernel8.img");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        check("", SlotName::B, None);
        check("arm_64bit=1\n", SlotName::B, None);
        check("os_prefix=kernels/\n", SlotName::B, None);
        check("os_prefix=A", SlotName::B, None);
        check("no_os_prefix=A/\n", SlotName::B, None);
    }
}
