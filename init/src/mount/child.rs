//! Looks for a disk and mounts it, in a process of its own: a disk may take seconds to answer, or never do so.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gokrazy_core::boot_disk::BootDisk;
use gokrazy_core::cmdline::RootSource;
use gokrazy_core::module_loader::{FAT, Loader};
use gokrazy_core::paths;
use gokrazy_core::superblock::{HEAD_BYTES, Superblock};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::disk::Outcome;
use super::place::Place;
use super::{GUARD, Mount, Source};

/// A guard: nobody enters it but root, and not even root writes to it.
const GUARD_OPTIONS: &str = "mode=0000,size=4k,nr_inodes=1";

/// Puts a guard on a mount point, which is made if it is not there; quick, so PID 1 does it.
///
/// The guard is shared (`mount_namespaces(7)`): what is mounted on it later shows up behind the fences of services.
///
/// # Errors
/// What was tried, and the errno.
pub fn guard(target: &Path) -> Result<(), String> {
    let failed = |what: &str, error: io::Error| format!("{what} {}: {error}", target.display());
    let place = || Place::open(target).map_err(|error| failed("open", error));
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(GUARD),
        &place()?.path(),
        Some("tmpfs"),
        flags,
        Some(GUARD_OPTIONS),
    )
    .map_err(|errno| failed("guard", errno.into()))?;
    // Opened anew, it is the guard that is found there.
    mount(
        None::<&str>,
        &place()?.path(),
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )
    .map_err(|errno| failed("share", errno.into()))
}

/// Looks for the disk, and mounts it if it is there; `modules` is the folder of the kernel's modules, if they are ours
/// to load.
pub fn attempt(wanted: &Mount, modules: Option<&Path>) -> Outcome {
    let Some((node, kind)) = find(&wanted.source) else {
        return Outcome::Absent;
    };
    let name = node
        .strip_prefix(paths::DEV)
        .unwrap_or(&node)
        .display()
        .to_string();
    let Some(kind) = wanted.kind.clone().or(kind) else {
        return Outcome::Failed(format!(
            "{} holds no file system that is known here: name it with `type`",
            node.display()
        ));
    };
    if let Some(folder) = modules {
        load(folder, &kind);
    }
    let data = Some(wanted.options.data.as_str()).filter(|data| !data.is_empty());
    let place = match Place::open(&wanted.target) {
        Ok(place) => place,
        Err(error) => return Outcome::Failed(format!("open its mount point: {error}")),
    };
    match mount(
        Some(&node),
        &place.path(),
        Some(kind.as_str()),
        wanted.options.flags,
        data,
    ) {
        Ok(()) => Outcome::Mounted(name),
        Err(Errno::ENODEV) => Outcome::Failed(format!(
            "{}: this kernel knows no {kind}: name its module in `modules`",
            node.display()
        )),
        Err(errno) => Outcome::Failed(format!(
            "{} as {kind}: {}",
            node.display(),
            io::Error::from(errno)
        )),
    }
}

/// Takes away a mount whose disk is gone; what still uses it meets errors, and nobody else finds it.
///
/// # Errors
/// The errno of opening it, or of umount2(2).
pub fn detach(target: &Path) -> io::Result<()> {
    Ok(umount2(&Place::open(target)?.path(), MntFlags::MNT_DETACH)?)
}

/// A file system's module goes by the alias `fs-<type>`; one that is built in has none.
fn load(folder: &Path, kind: &str) {
    let mut loader = Loader::open(folder);
    let mut modules = loader.modules_for(&[format!("fs-{kind}")].into());
    if kind == "vfat" {
        modules.extend(FAT.map(str::to_owned));
    }
    for module in modules {
        // Whether it worked shows in the mount.
        let _ = loader.load(&module);
    }
}

/// The disk's node, and the type of its file system.
fn find(source: &Source) -> Option<(PathBuf, Option<String>)> {
    let kind = |node: &Path| superblock(node).map(|found| found.kind.to_owned());
    let by = |judge: &dyn Fn(&Superblock) -> bool| {
        nodes().find_map(|node| {
            let found = superblock(&node).filter(judge)?;
            Some((node, Some(found.kind.to_owned())))
        })
    };
    match source {
        Source::Label(label) => by(&|found| found.label == *label),
        Source::Uuid(uuid) => {
            by(&|found| !uuid.is_empty() && found.uuid.eq_ignore_ascii_case(uuid))
        }
        Source::PartUuid(id) => {
            let partition = RootSource::PartUuid {
                uuid: id.clone(),
                offset: 0,
            };
            let node = BootDisk::find(&partition)?.named_root().to_owned();
            let kind = kind(&node);
            Some((node, kind))
        }
        Source::Device(path) => {
            let node = fs::canonicalize(path).ok()?;
            let kind = kind(&node);
            Some((node, kind))
        }
    }
}

/// All disks and partitions that hold anything, in the order of their names.
fn nodes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(paths::SYS_CLASS_BLOCK)
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| {
            let size = fs::read_to_string(entry.path().join("size"));
            size.is_ok_and(|text| text.trim() != "0")
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("ram") && !name.starts_with("zram"))
        .collect();
    names.sort();
    // The kernel writes `/` in a name as `!`.
    names
        .into_iter()
        .map(|name| Path::new(paths::DEV).join(name.replace('!', "/")))
}

fn superblock(node: &Path) -> Option<Superblock> {
    let mut head = Vec::new();
    // One that cannot be read holds nothing that can be mounted.
    File::open(node)
        .ok()?
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .ok()?;
    Superblock::parse(&head)
}
