//! What the kernel tells of this machine: memory, storage, names, and what a process uses.
//!
//! Everything here may be absent, and then shows as absent; nothing here is worth refusing a page for.
//! Parsers take text, so that they can be tried on any.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gokrazy_core::regular_file;
use nix::sys::statvfs::{FsFlags, statvfs};

/// Most bytes read of any state file or file of the kernel.
const MAX_FILE: u64 = 64 * 1024;

/// Text of a small file, cut at 64 KiB; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// The errno of opening or reading; what is no regular file is refused, since a pipe would hold everybody up.
pub fn small_text(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    regular_file::open(path)?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Where the kernel's files are found.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The proc file system.
    pub proc: PathBuf,
    /// The sys file system.
    pub sys: PathBuf,
}

/// Memory of the machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// What programs could still have without swapping.
    pub available: u64,
    /// What the kernel manages.
    pub total: u64,
}

/// Use of a file system, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Where it is mounted.
    pub target: String,
    /// Its device, or the file system's own name for what has none.
    pub device: String,
    /// In use.
    pub used: u64,
    /// Free for unprivileged programs.
    pub available: u64,
    /// Its size.
    pub total: u64,
    /// Whether nothing can be written, as after an error of the file system.
    pub read_only: bool,
}

/// Names that uname(2) gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Host name.
    pub host: String,
    /// Kernel and machine, as gokrazy words it: `Linux 6.12.25 (aarch64)`.
    pub kernel: String,
    /// The machine alone: `aarch64`.
    pub machine: String,
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// All its resident pages.
    pub resident: u64,
    /// Its share of them, where the kernel lets us see it.
    pub proportional: Option<u64>,
}

impl Kernel {
    /// Memory of the machine (`meminfo`, proc(5)).
    pub fn memory(&self) -> Memory {
        small_text(&self.proc.join("meminfo"))
            .map_or_else(|_| Memory::default(), |text| meminfo(&text))
    }

    /// Time since the boot (`uptime`, proc(5)).
    pub fn uptime(&self) -> Option<Duration> {
        let text = small_text(&self.proc.join("uptime")).ok()?;
        let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// What tells this boot from others (`sys/kernel/random/boot_id`, random(4)).
    pub fn boot_id(&self) -> Option<String> {
        let text = small_text(&self.proc.join("sys/kernel/random/boot_id")).ok()?;
        Some(text.trim().to_owned())
    }

    /// Load over 1, 5 and 15 minutes (`loadavg`, proc(5)).
    pub fn load(&self) -> Option<String> {
        let text = small_text(&self.proc.join("loadavg")).ok()?;
        let three: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
        (three.len() == 3).then(|| three.join(" "))
    }

    /// Memory of process `pid`; `None` once it is gone.
    pub fn process_memory(&self, pid: u32) -> Option<ProcessMemory> {
        let folder = self.proc.join(pid.to_string());
        let statm = small_text(&folder.join("statm")).ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let rollup = small_text(&folder.join("smaps_rollup")).ok();
        Some(ProcessMemory {
            resident: pages.saturating_mul(page_size()),
            proportional: rollup.and_then(|text| kib_line(&text, "Pss:")),
        })
    }

    /// What is mounted: device and target of each (`mounts`, proc(5)).
    pub fn mounts(&self) -> Vec<(String, String)> {
        let text = small_text(&self.proc.join("self/mounts")).unwrap_or_default();
        text.lines().filter_map(mount_line).collect()
    }

    /// The identity of a partition (`PARTUUID` of its uevent, since Linux 6.13).
    pub fn partition_uuid(&self, device: &str) -> Option<String> {
        let name = Path::new(device).file_name()?;
        let uevent = self.sys.join("class/block").join(name).join("uevent");
        let text = small_text(&uevent).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("PARTUUID="))
            .map(str::to_owned)
    }
}

/// Use of what is mounted at or above `target`.
pub fn storage(target: &Path, mounts: &[(String, String)]) -> Option<Storage> {
    let figures = statvfs(target).ok()?;
    let text = target.to_string_lossy().into_owned();
    // The last mount of a target hides the others.
    let device = mounts
        .iter()
        .rev()
        .find(|(_, mounted)| *mounted == text)
        .map(|(device, _)| device.clone());
    let bytes = |blocks: u64| blocks.saturating_mul(figures.fragment_size());
    Some(Storage {
        target: text,
        device: device.unwrap_or_default(),
        used: bytes(figures.blocks().saturating_sub(figures.blocks_free())),
        available: bytes(figures.blocks_available()),
        total: bytes(figures.blocks()),
        read_only: figures.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// Names of host, kernel and machine.
pub fn names() -> Names {
    let Ok(names) = nix::sys::utsname::uname() else {
        return Names::default();
    };
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let machine = text(names.machine());
    Names {
        host: text(names.nodename()),
        kernel: format!(
            "{} {} ({machine})",
            text(names.sysname()),
            text(names.release())
        ),
        machine,
    }
}

/// When a file was last changed, as Unix seconds.
pub fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn page_size() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

fn meminfo(text: &str) -> Memory {
    Memory {
        available: kib_line(text, "MemAvailable:").unwrap_or(0),
        total: kib_line(text, "MemTotal:").unwrap_or(0),
    }
}

/// Bytes of a line like `MemTotal:  948304 kB`.
fn kib_line(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    let kib: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Blanks, tabs, line breaks and backslashes of a path are written in octal (getmntent(3)).
fn mount_line(line: &str) -> Option<(String, String)> {
    let mut fields = line.split(' ').map(|field| {
        field
            .replace(r"\040", " ")
            .replace(r"\011", "\t")
            .replace(r"\012", "\n")
            .replace(r"\134", r"\")
    });
    Some((fields.next()?, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_from_meminfo_and_from_garbage() {
        let text = "MemTotal:         948304 kB\nMemFree:  1 kB\nMemAvailable:     812000 kB\n";
        let memory = Memory {
            available: 812_000 * 1024,
            total: 948_304 * 1024,
        };
        assert_eq!(meminfo(text), memory);
        assert_eq!(
            meminfo("MemTotal: many kB\nMemAvailable:"),
            Memory::default()
        );
    }

    #[test]
    fn mounts_with_blanks_in_their_names() {
        let line = r"/dev/sda1 /mnt/my\040disk ext4 rw 0 0";
        let expected = ("/dev/sda1".to_owned(), "/mnt/my disk".to_owned());
        assert_eq!(mount_line(line), Some(expected));
        assert_eq!(mount_line("garbage"), None);
    }

    #[test]
    fn this_machine_has_memory_names_and_storage() {
        let kernel = Kernel {
            proc: "/proc".into(),
            sys: "/sys".into(),
        };
        assert!(kernel.memory().total > 0);
        assert!(kernel.uptime().is_some());
        assert!(kernel.load().is_some());
        assert!(names().kernel.starts_with("Linux "));
        let own = kernel.process_memory(std::process::id()).unwrap();
        assert!(
            own.proportional
                .is_some_and(|share| share <= own.resident * 2)
        );
        assert!(storage(Path::new("/"), &kernel.mounts()).is_some_and(|root| root.total > 0));
        assert_eq!(kernel.process_memory(u32::MAX), None);
    }

    #[test]
    fn nothing_is_there() {
        let kernel = Kernel {
            proc: "/nonexistent".into(),
            sys: "/nonexistent".into(),
        };
        assert_eq!(kernel.memory(), Memory::default());
        assert_eq!(kernel.uptime(), None);
        assert_eq!(kernel.mounts(), []);
        assert_eq!(storage(Path::new("/nonexistent"), &[]), None);
    }
}
