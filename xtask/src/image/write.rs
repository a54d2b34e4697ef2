//! Puts the parts into one file, beside its final place, and moves it there when it is whole.
//!
//! Zeros become holes, so the file takes no more room than what is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use gokrazy_core::layout::{
    BACKUP_GPT_SECTORS, BOOT, PERM_FIRST_LBA, ROOT_A, SECTOR_BYTES, SLOT_TABLE_LBAS,
};
use gokrazy_core::paths;
use gokrazy_core::slots::Table;

use super::gpt::{self, Guid, Mbr};
use crate::process;
use crate::progress::{Progress, human};

/// Bytes of the data partition in the image; the first boot lets it grow to the card.
const PERM_BYTES: u64 = 128 * 1024 * 1024;
/// MiB of its journal, which does not grow: enough for a card of any size.
const JOURNAL_MIB: &str = "16";
/// What is compared with zeros at a time: a file system's block.
const BLOCK: usize = 4096;
/// What is copied to a card at a time.
const CHUNK: usize = 4 * 1024 * 1024;

/// The image's size in sectors: whole MiB up to the data partition's end, then the backup of the partition table.
pub(crate) const IMAGE_SECTORS: u64 =
    PERM_FIRST_LBA + PERM_BYTES / SECTOR_BYTES + BACKUP_GPT_SECTORS.next_multiple_of(2048);

/// All that an image holds.
#[derive(Debug)]
pub(crate) struct Parts<'build> {
    /// Ids derive from it.
    pub(crate) hostname: &'build str,
    /// What stands before the GPT.
    pub(crate) mbr: Mbr,
    /// The boot partition's FAT.
    pub(crate) boot: &'build Path,
    /// The root's squashfs.
    pub(crate) root: &'build Path,
    /// Folder for an image that goes to a card.
    pub(crate) scratch: &'build Path,
    /// Seconds since 1970 that every time stamp gets.
    pub(crate) time: u64,
}

/// Writes the image to `output`: a file, which is replaced whole, or a card.
///
/// # Errors
/// The step that failed; a file is then as it was before.
pub(crate) fn image(parts: &Parts<'_>, output: &Path, progress: &Progress) -> Result<u64> {
    check_folder(output)?;
    if !is_device(output) {
        let half = beside(output);
        let written = fill(parts, &half).and_then(|()| move_into_place(&half, output));
        if written.is_err() {
            let _ = fs::remove_file(&half);
        }
        return written.map(|()| IMAGE_SECTORS * SECTOR_BYTES);
    }
    let mut card = open_card(output)?;
    let half = parts
        .scratch
        .join(format!(".card-{}.img", std::process::id()));
    let written =
        fill(parts, &half).and_then(|()| copy_to_card(&half, &mut card, output, progress));
    let _ = fs::remove_file(&half);
    written.map(|()| IMAGE_SECTORS * SECTOR_BYTES)
}

/// Refuses what cannot work, before anything is built.
///
/// # Errors
/// A folder or a card that is not there, what is neither file nor card, a card that is in use or too small.
pub(crate) fn check(output: &Path) -> Result<()> {
    check_folder(output)?;
    if is_device(output) {
        open_card(output)?;
    }
    Ok(())
}

fn check_folder(output: &Path) -> Result<()> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "there is no folder {} for the image; make it, or give another `--output`",
            folder.display()
        );
    }
    if output.is_dir() {
        bail!(
            "{} is a folder; `--output` is the image's file",
            output.display()
        );
    }
    let name = output.display();
    match fs::metadata(output).map(|found| found.file_type()) {
        Ok(kind) if kind.is_file() || kind.is_block_device() => Ok(()),
        // It would be replaced: `/dev/null`, for all programs of this machine.
        Ok(_) => bail!("{name} is neither a file nor a card; give another `--output`"),
        // A file there would take this machine's memory, and be no card.
        Err(_) if output.starts_with(paths::DEV) && !output.starts_with(paths::DEV_SHM) => {
            bail!("there is no card {name}; `lsblk` lists those that are there")
        }
        Err(_) => Ok(()),
    }
}

/// Whether `path` is a card rather than a file.
pub(crate) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Opened for us alone, a block device that is mounted, or has a partition that is, gives EBUSY (open(2)).
fn open_card(path: &Path) -> Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_EXCL)
        .open(path);
    let mut card = match opened {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            bail!("{} is in use: unmount its partitions first", path.display())
        }
        opened => opened.with_context(|| format!("open {}", path.display()))?,
    };
    let size = card
        .seek(SeekFrom::End(0))
        .with_context(|| format!("measure {}", path.display()))?;
    let needed = IMAGE_SECTORS * SECTOR_BYTES;
    if size < needed {
        bail!(
            "{} is too small: it has {}, and the layout needs {}",
            path.display(),
            human(size),
            human(needed)
        );
    }
    card.rewind()
        .with_context(|| format!("rewind {}", path.display()))?;
    Ok(card)
}

fn beside(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".new");
    output.with_file_name(name)
}

fn fill(parts: &Parts<'_>, path: &Path) -> Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        // The image holds the password's hash.
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.set_len(IMAGE_SECTORS * SECTOR_BYTES)
        .with_context(|| format!("size {}", path.display()))?;
    let put = |lba: u64, bytes: &[u8]| {
        write_sparse(&file, lba * SECTOR_BYTES, bytes)
            .with_context(|| format!("write {}", path.display()))
    };
    let tables = gpt::tables(parts.hostname, parts.mbr, IMAGE_SECTORS)
        .context("fit the layout into the image")?;
    put(0, &tables.primary)?;
    put(tables.backup_lba, &tables.backup)?;
    for lba in SLOT_TABLE_LBAS {
        put(lba, &Table::new().encode())?;
    }
    for (extent, part) in [(BOOT, parts.boot), (ROOT_A, parts.root)] {
        let bytes = fs::read(part).with_context(|| format!("read {}", part.display()))?;
        let (size, room) = (bytes.len() as u64, extent.sectors * SECTOR_BYTES);
        if size > room {
            bail!(
                "partition {} has {}, and its content takes {}",
                extent.number,
                human(room),
                human(size)
            );
        }
        put(extent.first_lba, &bytes)?;
    }
    make_perm(path, parts.hostname, parts.time)?;
    file.sync_all()
        .with_context(|| format!("sync {}", path.display()))
}

/// Writes what is not zero.
fn write_sparse(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut position = at;
    for block in bytes.chunks(BLOCK) {
        if ZEROS.get(..block.len()) != Some(block) {
            file.write_all_at(block, position)?;
        }
        position += block.len() as u64;
    }
    Ok(())
}

/// The data partition's ext4, of features that do not depend on this machine's mke2fs.conf.
///
/// `resize_inode` and `64bit` let the running kernel grow it to any card: by the reserved blocks up to a thousand
/// times, then by changing to `meta_bg` on its own.
fn make_perm(image: &Path, hostname: &str, time: u64) -> Result<()> {
    const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                            sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
    let Some(program) = crate::setup::program("mke2fs") else {
        bail!("there is no mke2fs; `cargo xtask setup` gets it");
    };
    let offset = PERM_FIRST_LBA * SECTOR_BYTES;
    let seed = Guid::derived(hostname, 0x104);
    process::capture(
        Command::new(program)
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-L", "perm"])
            .args(["-O", FEATURES, "-J", &format!("size={JOURNAL_MIB}"), "-U", &Guid::derived(hostname, 0x4).to_string()])
            .arg("-E")
            .arg(format!(
                "offset={offset},hash_seed={seed},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
            ))
            .arg(image)
            .arg(format!("{}k", PERM_BYTES / 1024))
            .env("E2FSPROGS_FAKE_TIME", time.to_string())
            .env("MKE2FS_CONFIG", "/nonexistent"),
    )?;
    Ok(())
}

fn copy_to_card(image: &Path, card: &mut File, name: &Path, progress: &Progress) -> Result<()> {
    let mut source = File::open(image).with_context(|| format!("open {}", image.display()))?;
    let mut buffer = vec![0; CHUNK];
    let total = IMAGE_SECTORS * SECTOR_BYTES;
    let mut done = 0;
    loop {
        let count = source
            .read(&mut buffer)
            .with_context(|| format!("read {}", image.display()))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        card.write_all(bytes)
            .with_context(|| format!("write {}", name.display()))?;
        // Without this the bar would show how fast memory is.
        card.sync_data()
            .with_context(|| format!("write {}", name.display()))?;
        done += count as u64;
        progress.bar("writing the card", done, total);
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of gigabytes, which `atomic` would want in memory; it is synced"
)]
fn move_into_place(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {} into place", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_ends_with_the_backup_table_and_perm_is_whole() {
        let perm = gokrazy_core::layout::perm_sectors(IMAGE_SECTORS).unwrap();
        assert_eq!(perm * SECTOR_BYTES, PERM_BYTES);
    }

    #[test]
    fn zeros_become_holes_and_the_rest_is_written() {
        let path = std::env::temp_dir().join(format!("xtask-sparse-{}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        let mut bytes = vec![0; 3 * BLOCK + 10];
        bytes[BLOCK] = 7;
        *bytes.last_mut().unwrap() = 9;
        write_sparse(&file, 512, &bytes).unwrap();
        let read = fs::read(&path).unwrap();
        assert_eq!(read.len(), 512 + bytes.len());
        assert_eq!(read[512..], bytes);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_can_be_no_image_is_refused() {
        let check = |path: &str, word: &str| {
            let error = check(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        check("/nonexistent/x.img", "/nonexistent");
        check("/", "is a folder");
        check("/dev/null", "neither a file nor a card");
        check("/dev/nonexistent-card", "there is no card");
        super::check(Path::new("/dev/shm/nonexistent.img")).unwrap();
    }
}
