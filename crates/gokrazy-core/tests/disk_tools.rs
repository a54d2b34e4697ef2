//! Our reading and writing of disks against the tools that everyone uses: sgdisk, mkfs.fat and mcopy.
//!
//! No root needed: all of them take plain files. A tool that is missing fails the test with the package it is in.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test's helper cannot do fails the test"
)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gokrazy_core::fat::find;
use gokrazy_core::gpt::{HEAD_SECTORS, TAIL_SECTORS, Table};

const SECTOR: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// A folder of this test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gokrazy-disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A file of `bytes` zeroes.
    fn disk(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.join(name);
        open(&path).set_len(bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

/// Runs a tool, which must succeed, and returns what it printed.
#[track_caller]
fn run(package: &str, tool: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(tool)
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}; apt-get install {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {text}{errors}"
    );
    text
}

/// An image of 32 MiB with four partitions by sgdisk, on a card that became `card` bytes large.
fn card(scratch: &Scratch, card: u64) -> PathBuf {
    let disk = scratch.disk("card", 32 * MIB);
    let name = disk.to_str().unwrap();
    let arguments = [
        "-n1:8192:+4M",
        "-n2:0:+4M",
        "-n3:0:+4M",
        "-n4:0:+4M",
        "-u2:60c24cc1-f3f9-427a-8199-8df6d0570002",
        "-h1",
        name,
    ];
    run("gdisk", "sgdisk", &arguments);
    open(&disk).set_len(card).unwrap();
    disk
}

fn read_at(file: &File, lba: u64, sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; (sectors * SECTOR) as usize];
    file.read_exact_at(&mut bytes, lba * SECTOR).unwrap();
    bytes
}

fn primary(file: &File) -> Option<Table> {
    Table::parse(&read_at(file, 0, HEAD_SECTORS))
}

fn backup(file: &File) -> Option<Table> {
    let sectors = file.metadata().unwrap().len() / SECTOR;
    Table::parse_backup(
        &read_at(file, sectors - TAIL_SECTORS, TAIL_SECTORS),
        sectors,
    )
}

#[track_caller]
fn assert_verified(disk: &Path) {
    let text = run("gdisk", "sgdisk", &["-v", disk.to_str().unwrap()]);
    assert!(text.contains("No problems found"), "{text}");
}

#[test]
fn sgdisk_finds_no_fault_in_a_grown_table() {
    let scratch = Scratch::new("grown");
    let disk = card(&scratch, 48 * MIB);
    let file = open(&disk);
    let table = primary(&file).unwrap();
    let partitions: Vec<_> = table.partitions().collect();
    assert_eq!((partitions.len(), partitions[0].first_lba), (4, 8192));
    assert_eq!(partitions[1].guid, "60c24cc1-f3f9-427a-8199-8df6d0570002");
    let before_sector = read_at(&file, 0, 1);

    let sectors = 48 * MIB / SECTOR;
    let grown = table.grown(4, sectors - 2048, sectors).unwrap();
    let (lba, bytes) = grown.backup().unwrap();
    file.write_all_at(&bytes, lba * SECTOR).unwrap();
    // The card as it is when the power is cut here is a valid one, too.
    assert_eq!(primary(&file), Some(table));
    file.write_all_at(&grown.primary(), SECTOR).unwrap();
    assert_verified(&disk);
    assert_eq!(
        read_at(&file, 0, 1),
        before_sector,
        "the hybrid MBR changed"
    );
    let name = disk.to_str().unwrap();
    let told = run("gdisk", "sgdisk", &["-i4", name]);
    assert!(
        told.contains(&format!("Last sector: {}", sectors - 2048)),
        "{told}"
    );
}

#[test]
fn a_torn_primary_is_mended_from_a_backup_by_sgdisk() {
    let scratch = Scratch::new("torn");
    let disk = card(&scratch, 32 * MIB);
    let file = open(&disk);
    let whole = primary(&file).unwrap();
    assert_eq!(backup(&file), Some(whole.clone()));
    file.write_all_at(&[0xA5; 512], 2 * SECTOR).unwrap();
    assert_eq!(primary(&file), None);
    let table = backup(&file).unwrap();
    file.write_all_at(&table.primary(), SECTOR).unwrap();
    assert_eq!(primary(&file), Some(whole));
    assert_verified(&disk);
}

/// A volume by mkfs.fat behind 1 MiB of other things, with `config.txt` as the last of many files.
fn check_fat(bits: &str, mib: u64, entries_before: usize) {
    let scratch = Scratch::new(&format!("fat{bits}-{entries_before}"));
    let volume = scratch.disk("volume", mib * MIB);
    let image = volume.to_str().unwrap();
    run(
        "dosfstools",
        "mkfs.fat",
        &["-F", bits, "-s", "1", "-n", "CONFIG", image],
    );
    let put = |name: &str, text: &str| {
        let source = scratch.0.join(name.replace('/', "-"));
        open(&source).write_all_at(text.as_bytes(), 0).unwrap();
        let target = format!("::/{name}");
        let arguments = ["-o", "-i", image, source.to_str().unwrap(), &target];
        run("mtools", "mcopy", &arguments);
    };
    put("config.txt", "old");
    for number in 0..entries_before {
        put(&format!("a rather long name {number}"), "x");
    }
    run("mtools", "mdel", &["-i", image, "::/config.txt"]);
    put("another", "taken the place of the deleted one");
    let text = "os_prefix=A/\narm_64bit=1\n";
    put("config.txt", text);

    run("mtools", "mmd", &["-i", image, "::/A"]);
    for number in 0..entries_before {
        put(&format!("A/another long name {number}"), "x");
    }
    put("A/vmlinuz", "a kernel");

    let disk = scratch.disk("disk", (mib + 1) * MIB);
    let mut file = open(&disk);
    file.write_all_at(&fs::read(&volume).unwrap(), MIB).unwrap();
    let found = find(&mut file, MIB, "CONFIG.TXT").unwrap().unwrap();
    assert_eq!(found.bytes as usize, text.len());
    let mut bytes = vec![0; text.len()];
    file.read_exact_at(&mut bytes, found.offset).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    assert_eq!(
        find(&mut file, MIB, "ABSENT.TXT").unwrap(),
        None,
        "FAT{bits}"
    );
    let kernel = find(&mut file, MIB, "A/VMLINUZ").unwrap().unwrap();
    let mut bytes = vec![0; kernel.bytes as usize];
    file.read_exact_at(&mut bytes, kernel.offset).unwrap();
    assert_eq!(bytes, b"a kernel");
    for absent in ["A/ABSENT", "B/VMLINUZ", "VMLINUZ"] {
        assert_eq!(find(&mut file, MIB, absent).unwrap(), None, "{absent}");
    }
}

#[test]
fn files_are_found_where_mkfs_fat_and_mcopy_put_them() {
    check_fat("16", 16, 3);
    check_fat("32", 40, 3);
    // The root folder of FAT32 goes on in further clusters, which do not lie side by side.
    check_fat("32", 40, 40);
}
