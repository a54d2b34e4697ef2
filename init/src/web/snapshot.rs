//! All that the machine says of itself at one moment, gathered from the state files and from the kernel.
//!
//! A file that is absent means what `docs/files.md` says; one that is garbage costs its own part of the page and
//! a line among the problems.
//! How it looks is [`super::pages`]', [`super::gokrazy`]'s and [`super::metrics`]' work.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gokrazy_core::addresses::Addresses;
use gokrazy_core::boot_info::BootInfo;
use gokrazy_core::clock::ClockState;
use gokrazy_core::lease::Lease;
use gokrazy_core::paths;
use gokrazy_core::service_status::ServiceStatus;

use super::logs;
use super::machine::{self, Kernel, Memory, Names, ProcessMemory, Storage, small_text};

/// Most services, leases or mounts that are shown.
const MAX_ENTRIES: usize = 256;

/// Where a snapshot is taken from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// State files of our daemons.
    pub run_dir: PathBuf,
    /// The lasting data.
    pub perm_dir: PathBuf,
    /// Build-time configuration.
    pub etc_dir: PathBuf,
    /// The kernel's files.
    pub kernel: Kernel,
}

/// A service and what its process uses.
#[derive(Debug, Clone)]
pub struct Service {
    /// What init says.
    pub status: ServiceStatus,
    /// What the kernel says, while it runs.
    pub memory: Option<ProcessMemory>,
    /// The last line of its log.
    pub last_line: Option<String>,
}

impl Service {
    /// The program's path: the first word of its command line.
    pub fn program(&self) -> &str {
        self.arguments().next().unwrap_or_default()
    }

    /// The command line's words.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.status.command.split_ascii_whitespace()
    }

    /// When it was last started.
    pub fn started_at(&self) -> Option<SystemTime> {
        let ms = u64::try_from(self.status.started_at_ms?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))
    }

    /// Whether `name` means this service: its name, or its program's path as gokrazy's clients write it.
    pub fn is(&self, name: &str) -> bool {
        self.status.name == name || self.program() == name
    }
}

/// The machine at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub now: SystemTime,
    /// What booted; `None` where init is not the machine's PID 1.
    pub boot: Option<BootInfo>,
    /// Names of host and kernel.
    pub names: Names,
    /// The board or machine; empty if nobody knows.
    pub model: String,
    /// When the image was built; `None` if it does not say.
    pub built: Option<SystemTime>,
    /// Digest of what the image was made of; empty if it does not say.
    pub sbom_hash: String,
    /// Time since the boot.
    pub uptime: Option<Duration>,
    /// Load averages.
    pub load: Option<String>,
    /// Memory of the machine.
    pub memory: Memory,
    /// The lasting data's file system.
    pub perm: Option<Storage>,
    /// Identity of its partition.
    pub perm_uuid: Option<String>,
    /// Disks that are mounted below `/mnt`.
    pub mounts: Vec<Storage>,
    /// The clock; `None` while nobody vouches for it.
    pub clock: Option<ClockState>,
    /// Addresses; `None` while init says nothing.
    pub addresses: Option<Addresses>,
    /// What dhcp has configured.
    pub leases: Vec<Lease>,
    /// Services, by name.
    pub services: Vec<Service>,
    /// State files that could not be read, each with the reason.
    pub problems: Vec<String>,
}

impl Snapshot {
    /// A machine of which nothing is known.
    pub fn empty(now: SystemTime) -> Self {
        Self {
            now,
            boot: None,
            names: Names::default(),
            model: String::new(),
            built: None,
            sbom_hash: String::new(),
            uptime: None,
            load: None,
            memory: Memory::default(),
            perm: None,
            perm_uuid: None,
            mounts: Vec::new(),
            clock: None,
            addresses: None,
            leases: Vec::new(),
            services: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Sources {
    /// Gathers all of it; `now` is what the clock shows.
    pub fn snapshot(&self, now: SystemTime) -> Snapshot {
        let mut problems = Vec::new();
        let run = |name| self.run_dir.join(name);
        let boot = read(&run(paths::BOOT_INFO), BootInfo::parse, &mut problems);
        let clock = read(&run(paths::CLOCK), ClockState::parse, &mut problems);
        let addresses = read(&run(paths::ADDRESSES), Addresses::parse, &mut problems);
        let leases = read_all(&run(paths::NET_DIR), Lease::parse, &mut problems);
        let services = self.services(&mut problems);
        let mounts = self.kernel.mounts();
        let perm = machine::storage(&self.perm_dir, &mounts);
        let model = boot.as_ref().map(|boot| boot.model.clone());
        Snapshot {
            now,
            names: machine::names(),
            model: model
                .filter(|model| !model.is_empty())
                .unwrap_or_else(gokrazy_core::model::model),
            boot,
            built: machine::modified(&self.etc_dir.join("build-id")),
            sbom_hash: self.sbom_hash(),
            uptime: self.kernel.uptime(),
            load: self.kernel.load(),
            memory: self.kernel.memory(),
            perm_uuid: perm
                .as_ref()
                .and_then(|perm| self.kernel.partition_uuid(&perm.device)),
            perm,
            mounts: other_mounts(&mounts),
            clock,
            addresses,
            leases,
            services,
            problems,
        }
    }

    /// The services alone, by name.
    pub fn services(&self, problems: &mut Vec<String>) -> Vec<Service> {
        let folder = self.run_dir.join(paths::SERVICE_DIR);
        let logs = self.run_dir.join(paths::LOG_DIR);
        let mut services: Vec<Service> = read_all(&folder, ServiceStatus::parse, problems)
            .into_iter()
            .map(|status| Service {
                memory: status.pid.and_then(|pid| self.kernel.process_memory(pid)),
                last_line: logs::folder_of(&logs, &status.name)
                    .and_then(|folder| crate::logd::reader::last_text(&folder)),
                status,
            })
            .collect();
        services.sort_by(|a, b| a.status.name.cmp(&b.status.name));
        services
    }

    /// The service that `name` means, by name or by path.
    pub fn service(&self, name: &str) -> Option<Service> {
        let services = self.services(&mut Vec::new());
        services.into_iter().find(|service| service.is(name))
    }

    fn sbom_hash(&self) -> String {
        let sbom = gokrazy_core::sbom::read_sbom_from(&self.etc_dir.join("sbom.json"));
        sbom.map_or_else(|_| String::new(), |sbom| sbom.hash)
    }
}

/// Absence says something and is no problem; everything else that is not `T` is one.
fn read<T, E: Display>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
    problems: &mut Vec<String>,
) -> Option<T> {
    let text = match small_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            problems.push(format!("{}: {error}", path.display()));
            return None;
        }
    };
    match parse(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(format!("{}: {error}", path.display()));
            None
        }
    }
}

fn read_all<T, E: Display>(
    folder: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
    problems: &mut Vec<String>,
) -> Vec<T> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .take(MAX_ENTRIES)
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|path| read(path, &parse, problems))
        .collect()
}

/// What an operator mounts, by custom, below this folder.
const MNT: &str = "/mnt/";

/// Disks alone: what stands for a server (NFS, FUSE) is not asked for its size, since statvfs(3) waits for one that is
/// gone, and the page with it; and the guard under a disk is none.
fn other_mounts(mounts: &[(String, String)]) -> Vec<Storage> {
    let is_disk = |device: &str| Path::new(device).starts_with(paths::DEV);
    mounts
        .iter()
        .filter(|(device, target)| target.starts_with(MNT) && is_disk(device))
        .filter_map(|(_, target)| machine::storage(Path::new(target), mounts))
        .take(MAX_ENTRIES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(name: &str) -> Sources {
        let run_dir =
            std::env::temp_dir().join(format!("gokrazy-web-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&run_dir);
        fs::create_dir_all(run_dir.join("service")).unwrap();
        fs::create_dir_all(run_dir.join("net")).unwrap();
        Sources {
            perm_dir: run_dir.clone(),
            etc_dir: run_dir.clone(),
            kernel: Kernel {
                proc: "/proc".into(),
                sys: "/sys".into(),
            },
            run_dir,
        }
    }

    fn write(sources: &Sources, name: &str, bytes: &[u8]) {
        use gokrazy_core::atomic::{Durability, replace};
        replace(
            &sources.run_dir.join(name),
            bytes,
            0o644,
            Durability::Volatile,
        )
        .unwrap();
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_problem() {
        let sources = sources("silent");
        let snapshot = sources.snapshot(SystemTime::UNIX_EPOCH);
        assert!(
            snapshot.boot.is_none() && snapshot.clock.is_none() && snapshot.addresses.is_none()
        );
        assert!(snapshot.problems.is_empty());
        fs::remove_dir_all(&sources.run_dir).unwrap();
    }

    #[test]
    fn garbage_costs_its_own_part_only() {
        let sources = sources("garbage");
        for name in ["boot", "clock", "addresses", "net/eth0", "service/bad"] {
            write(&sources, name, b"\xff\xfe{\"json\": true}\0");
        }
        let good =
            b"name=good\nstate=running\ncommand='/user/good -x'\npid=1\nsince_ms=5\nrestarts=0\n";
        write(&sources, "service/good", good);
        write(&sources, "service/.good.new", b"half");
        let snapshot = sources.snapshot(SystemTime::UNIX_EPOCH);
        assert_eq!(snapshot.problems.len(), 5);
        let names: Vec<_> = snapshot
            .services
            .iter()
            .map(|service| &service.status.name)
            .collect();
        assert_eq!(names, ["good"]);
        assert!(sources.service("/user/good").is_some());
        assert!(sources.service("good").is_some());
        assert!(sources.service("goo").is_none());
        fs::remove_dir_all(&sources.run_dir).unwrap();
    }

    #[test]
    fn a_server_is_not_asked_for_its_size() {
        let mounted = |device: &str| other_mounts(&[(device.to_owned(), "/mnt/../tmp".to_owned())]);
        assert_eq!(mounted("/dev/sda1").len(), 1);
        assert_eq!(mounted("nas:/export"), []);
        assert_eq!(mounted(crate::mount::GUARD), []);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_holds_nobody_up() {
        let sources = sources("pipe");
        let pipe = sources.run_dir.join("clock");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        // On another thread: if it waits, it does so for ever.
        let (tell, told) = std::sync::mpsc::channel();
        let other = sources.clone();
        std::thread::spawn(move || tell.send(Box::new(other.snapshot(SystemTime::UNIX_EPOCH))));
        let snapshot = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(snapshot.clock.is_none());
        assert_eq!(snapshot.problems.len(), 1);
        fs::remove_dir_all(&sources.run_dir).unwrap();
    }

    #[test]
    fn the_sbom_tells_its_hash_if_it_is_one() {
        let sources = sources("sbom");
        assert_eq!(sources.sbom_hash(), "");
        let hash = "de4d97b7".repeat(8);
        let document = format!("{{\"sbom_hash\":\"{hash}\",\"sbom\":{{}}}}");
        write(&sources, "sbom.json", document.as_bytes());
        assert_eq!(sources.sbom_hash(), hash);
        write(&sources, "sbom.json", b"[");
        assert_eq!(sources.sbom_hash(), "");
        fs::remove_dir_all(&sources.run_dir).unwrap();
    }
}
