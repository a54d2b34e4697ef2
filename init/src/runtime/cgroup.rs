//! Control groups, version 2 (`cgroups(7)`): one for each service, so that nothing of it escapes its end.
//!
//! Where the hierarchy is not mounted or not ours to write, there are none, and [`super::tree`] does with less.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gokrazy_core::paths;
use nix::fcntl::{Flock, FlockArg};

use super::cgroup_room::{self, Room};
use super::kin;
use crate::service::Limits;

/// The folder below which services get their groups.
#[derive(Debug)]
pub struct Root {
    folder: PathBuf,
    /// Tells other inits that this folder is somebody's; goes with this process.
    held: Option<Flock<File>>,
    /// Absent where our own group cannot be divided, so that there are no limits.
    room: Option<Room>,
}

/// The group of one service.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    is_fresh: bool,
}

/// The file that holds a group's processes (`cgroups(7)`).
pub(super) const PROCS: &str = "cgroup.procs";

/// So many groups of one service are looked at: it may make as many as it likes.
const MOST_GROUPS: usize = 1024;

/// How the folders of all inits' services begin.
const PREFIX: &str = "gokrazy-";

/// How the group of an init ends that had to leave its own.
const LEAF: &str = ".init";

/// So often a folder is made that another init takes for a dead one's.
const TRIES: u32 = 5;

/// So often what was killed is looked for: it may be in the kernel's hands for an instant.
const LOOKS: u32 = 100;

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Root {
    /// Finds the hierarchy and makes our folder in it, named after the run folder, which no two inits share.
    ///
    /// # Errors
    /// Why there are no groups, for people.
    pub fn open(run_dir: &Path) -> Result<Self, String> {
        let (parent, folder) = folders(run_dir)?;
        sweep(&folder);
        let held = make_and_hold(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        sweep_of_the_dead(&parent, &folder);
        let room = cgroup_room::make(&parent, &folder, &leaf_of(&folder));
        Ok(Self { folder, held, room })
    }

    /// Makes the group of a service, with its limits; returns also the limits that cannot be held, for people.
    ///
    /// # Errors
    /// The errno of making the folder.
    pub fn group(&mut self, name: &str, limits: &Limits) -> io::Result<(Group, Vec<String>)> {
        let path = self.folder.join(name);
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        let mut made = fs::create_dir(&path);
        if made
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            self.make_anew()?;
            made = fs::create_dir(&path);
        }
        if made.as_ref().is_err_and(is_taken) {
            // A group that was once killed is not cloned into: see `is_fresh`. One with groups below it that hold
            // controllers takes no process in.
            remove_with_all_below(&path);
            made = fs::create_dir(&path);
        }
        let is_fresh = match made {
            Err(error) if !is_taken(&error) => return Err(error),
            made => made.is_ok(),
        };
        let group = Group { path, is_fresh };
        let missing = group.limit(limits);
        Ok((group, missing))
    }

    /// Makes our folder again: an empty one may be removed by the init whose run folder had the same number before, or
    /// by whoever tidies up.
    fn make_anew(&mut self) -> io::Result<()> {
        self.held = make_and_hold(&self.folder)?;
        if self.room.is_some() {
            cgroup_room::turn_on_below(&self.folder);
        }
        Ok(())
    }

    /// Removes our folder, and leaves our own group as it was; what is left in them keeps them.
    pub fn remove(&self) {
        sweep(&self.folder);
        if let Some(room) = &self.room {
            room.give_back();
        }
    }
}

/// Kills what an earlier init of this run folder left behind when it was killed; says whether there was anything.
///
/// Only for who has locked the run folder: what lives in its groups then belongs to nobody.
pub fn kill_left(run_dir: &Path) -> bool {
    let Ok((_, path)) = folders(run_dir) else {
        return false;
    };
    let all = Group {
        path,
        is_fresh: false,
    };
    let lives = || all.is_populated() == Some(true);
    if !lives() || all.kill().is_err() {
        return false;
    }
    for _ in 0..LOOKS {
        if !lives() {
            break;
        }
        thread::sleep(LOOK_AGAIN);
    }
    true
}

/// Our own group's folder, and in it the one of the services.
fn folders(run_dir: &Path) -> Result<(PathBuf, PathBuf), String> {
    let mounts = read(Path::new(paths::PROC_MOUNTINFO))?;
    let own = read(Path::new(paths::PROC_SELF_CGROUP))?;
    let parent = place(&mounts, &own).ok_or("no cgroup2 is mounted")?;
    let run = fs::metadata(run_dir).map_err(|error| format!("{}: {error}", run_dir.display()))?;
    let name = format!("{PREFIX}{:x}-{:x}", run.dev(), run.ino());
    // A fresh init after a bug finds itself where the one before had gone.
    let parent = match parent.parent() {
        Some(above) if parent == leaf_of(&above.join(&name)) => above.to_owned(),
        Some(_) | None => parent,
    };
    let folder = parent.join(name);
    Ok((parent, folder))
}

/// Where an init goes that had to leave its own group: beside its services' folder.
fn leaf_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(LEAF);
    name.into()
}

/// Makes the folder and marks it as somebody's (`flock(2)`).
///
/// Another init that takes it for a dead one's may remove it in between; then it is made again.
fn make_and_hold(folder: &Path) -> io::Result<Option<Flock<File>>> {
    for _ in 0..TRIES {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let held = hold(folder);
        if held.is_some() && folder.exists() {
            return Ok(held);
        }
        thread::sleep(LOOK_AGAIN);
    }
    // One that cannot be marked serves all the same.
    Ok(None)
}

fn hold(folder: &Path) -> Option<Flock<File>> {
    let file = File::open(folder).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes the empty groups of other run folders' inits that were killed: nobody else comes by.
fn sweep_of_the_dead(parent: &Path, own: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_an_inits = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        let path = entry.path();
        if !is_an_inits || path == own {
            continue;
        }
        if let Some(_held) = hold(&path) {
            sweep(&path);
        }
    }
}

/// Removes the empty groups of an earlier run.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        remove_with_all_below(&entry.path());
    }
    let _ = fs::remove_dir(folder);
}

/// Removes a group and those that its service made below it, as far as nothing lives in them.
fn remove_with_all_below(path: &Path) {
    if fs::remove_dir(path).is_ok() {
        return;
    }
    // Those below come later in the list.
    for folder in with_all_below(path).iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

/// A group's folder and all below it, each behind the one that it lies in.
fn with_all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next).filter(|_| found.len() < MOST_GROUPS) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let below: Vec<PathBuf> = entries
            .filter(is_folder)
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next = next.saturating_add(1);
    }
    found
}

impl Group {
    fn limit(&self, limits: &Limits) -> Vec<String> {
        files(limits)
            .filter(|(file, value)| put(&self.path.join(file), value).is_err())
            .map(|(file, _)| file.to_owned())
            .collect()
    }

    /// The group's folder, for `CLONE_INTO_CGROUP`; opened for each clone, since descriptors are dear.
    ///
    /// # Errors
    /// The errno of opening it.
    pub fn folder(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Whether it was made for this run, and may be cloned into.
    ///
    /// Linux 6.14 and later compare how often the cloner's own group was killed with how often this one was, and kill
    /// the child where that differs (`cgroup_css_set_fork`, `kill_seq`). Who joins by [`Self::procs`] is spared.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The file whose writer joins the group.
    pub fn procs(&self) -> PathBuf {
        self.path.join(PROCS)
    }

    /// Whether a process lives in it; `None` if that cannot be told.
    pub fn is_populated(&self) -> Option<bool> {
        let events = read(&self.path.join("cgroup.events")).ok()?;
        Some(events.lines().any(|line| line == "populated 1"))
    }

    /// Kills every process in it (`cgroup.kill`, Linux 5.14).
    ///
    /// # Errors
    /// The errno of writing the file.
    pub fn kill(&self) -> io::Result<()> {
        put(&self.path.join("cgroup.kill"), "1")
    }

    /// How often the kernel killed in it for want of memory.
    pub fn out_of_memory_kills(&self) -> u64 {
        let events = read(&self.path.join("memory.events")).unwrap_or_default();
        let count = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The processes in it and in groups below it, zombies aside; one outside of our namespace is not told by its
    /// number.
    pub fn members(&self) -> Vec<u32> {
        let folders = with_all_below(&self.path).into_iter();
        let all = folders.flat_map(|folder| members_of(&folder));
        all.filter(|pid| *pid > 0).collect()
    }

    /// Whether the process is in it or in a group below it, dead or alive: the kernel lists no dead members, and
    /// still tells where they were until somebody has waited for them.
    pub fn holds(&self, pid: u32) -> bool {
        let file = Path::new(paths::PROC).join(pid.to_string()).join("cgroup");
        let place = kin::is_known().then(|| read(&file).ok()).flatten();
        place.is_some_and(|place| self.is_named_in(&place)) || self.members().contains(&pid)
    }

    /// Whether the list of a process's groups names this one: its folder and name, which no two inits share.
    fn is_named_in(&self, place: &str) -> bool {
        let mut parts = self.path.components().rev();
        let (Some(name), Some(folder)) = (parts.next(), parts.next()) else {
            return false;
        };
        let own = Path::new(folder.as_os_str()).join(name);
        let mut above = own_group(place).map(Path::new).into_iter();
        above.any(|path| path.ancestors().any(|one| one.ends_with(&own)))
    }

    /// Removes it and all groups below it, if nothing lives in them.
    pub fn remove(&self) {
        remove_with_all_below(&self.path);
    }
}

/// The file that holds the limit of tasks.
pub const TASKS: &str = "pids.max";

/// The limits that a group would hold, by their files' names.
pub fn all(limits: &Limits) -> Vec<String> {
    files(limits).map(|(file, _)| file.to_owned()).collect()
}

fn files(limits: &Limits) -> impl Iterator<Item = (&'static str, String)> {
    let period = 100_000;
    let quota = |permille: u32| u64::from(permille).saturating_mul(period) / 1000;
    let cpu = limits.cpu_permille;
    let wanted = [
        ("memory.max", limits.memory.map(|bytes| bytes.to_string())),
        ("memory.oom.group", limits.memory.map(|_| "1".to_owned())),
        (
            "cpu.max",
            cpu.map(|share| format!("{} {period}", quota(share))),
        ),
        (TASKS, limits.tasks.map(|tasks| tasks.to_string())),
    ];
    wanted
        .into_iter()
        .filter_map(|(file, value)| Some((file, value?)))
}

/// The group of version 2 in a process's list (`/proc/<pid>/cgroup`); one that was removed is named so behind it.
fn own_group(list: &str) -> Option<&str> {
    let group = list.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(group.strip_suffix(" (deleted)").unwrap_or(group))
}

/// The folder of our own group: where version 2 is mounted, and which group we are in.
fn place(mounts: &str, own: &str) -> Option<PathBuf> {
    let group = own_group(own)?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = mount.split(' ').skip(3);
    let (root, target) = (fields.next()?, fields.next()?);
    // In a container the mount shows our group or one above it as its root.
    let below = if root == "/" {
        group
    } else {
        group.strip_prefix(root).unwrap_or("")
    };
    Some(Path::new(target).join(below.trim_start_matches('/')))
}

/// The processes in a group itself; 0 for one outside of our namespace.
pub(super) fn members_of(folder: &Path) -> Vec<u32> {
    let text = read(&folder.join(PROCS)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

/// Writes a control file, which is never made nor cut.
pub(super) fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_dead_inits_are_removed_and_no_others() {
        let parent = std::env::temp_dir().join(format!("in-sweep-{}", std::process::id()));
        let _ = fs::remove_dir_all(&parent);
        for name in ["gokrazy-dead/a", "gokrazy-lives/a", "gokrazy-own", "system"] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        let held = hold(&parent.join("gokrazy-lives"));
        sweep_of_the_dead(&parent, &parent.join("gokrazy-own"));
        let left = |name: &str| parent.join(name).exists();
        assert!(held.is_some() && left("gokrazy-lives/a"));
        assert!(left("gokrazy-own") && left("system") && !left("gokrazy-dead"));
        drop(held);
        assert!(
            make_and_hold(&parent.join("gokrazy-new"))
                .unwrap()
                .is_some()
        );
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_folder_that_somebody_removed_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("in-anew-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let mut root = Root {
            folder: folder.clone(),
            held: None,
            room: None,
        };
        let (group, _) = root.group("a", &Limits::default()).unwrap();
        assert!(group.is_fresh && folder.join("a").exists());
        assert!(root.held.is_some(), "it is somebody's");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn groups_that_a_service_made_are_its_own_and_go_with_it() {
        let path = std::env::temp_dir().join(format!("in-below-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for (folder, pids) in [("", "0\n7\n"), ("b", ""), ("b/c/d", "8\n9\n")] {
            fs::create_dir_all(path.join(folder)).unwrap();
            let mut procs = File::create_new(path.join(folder).join(PROCS)).unwrap();
            procs.write_all(pids.as_bytes()).unwrap();
        }
        let group = Group {
            path: path.clone(),
            is_fresh: true,
        };
        assert_eq!(group.members(), [7, 8, 9]);
        assert!(group.holds(9) && !group.holds(10));
        // Files of a control group do not hold its folder.
        for folder in ["", "b", "b/c/d"] {
            fs::remove_file(path.join(folder).join(PROCS)).unwrap();
        }
        group.remove();
        assert!(!path.exists());
    }

    #[test]
    fn our_group_is_found_in_every_kind_of_mount() {
        let line = |root: &str, target: &str| {
            format!("30 20 0:26 {root} {target} rw,nosuid - cgroup2 cgroup2 rw\n")
        };
        for (root, target, own, want) in [
            ("/", "/sys/fs/cgroup", "0::/\n", "/sys/fs/cgroup/"),
            (
                "/",
                "/sys/fs/cgroup/unified",
                "1:x:/y\n0::/a/b\n",
                "/sys/fs/cgroup/unified/a/b",
            ),
            (
                "/docker/1",
                "/sys/fs/cgroup",
                "0::/docker/1\n",
                "/sys/fs/cgroup/",
            ),
            ("/..", "/sys/fs/cgroup", "0::/x\n", "/sys/fs/cgroup/"),
        ] {
            assert_eq!(
                place(&line(root, target), own),
                Some(PathBuf::from(want)),
                "{root} {own}"
            );
        }
        assert_eq!(place("", "0::/\n"), None);
        assert_eq!(place(&line("/", "/c"), "1:cpu:/\n"), None);
    }
}
