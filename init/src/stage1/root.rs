//! Mounts the root, checks it, and moves into it.

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use gokrazy_core::paths;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot, execve};

use super::Handover;

/// Where the root is mounted before we move into it.
const NEW_ROOT: &str = "/newroot";
/// Stage 2, as a path in the root.
const INIT: &str = "/gokrazy/init";
/// `RAMFS_MAGIC` of `<linux/magic.h>`: an initramfs lies in one, or in a tmpfs.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// What the initramfs consists of; it is removed before the switch, for its memory would be lost otherwise.
const INITRAMFS_CONTENT: [&str; 3] = ["/init", "/lib", paths::ETC];

/// Whether the root is an initramfs made for us.
pub(super) fn is_initramfs() -> bool {
    let in_memory =
        statfs("/").is_ok_and(|fs| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&fs.filesystem_type()));
    in_memory && Path::new(NEW_ROOT).is_dir()
}

/// Mounts devices, processes and the system tree; what is mounted already stays.
pub(super) fn mount_early() -> Result<()> {
    for (kind, target) in [
        ("devtmpfs", paths::DEV),
        ("proc", paths::PROC),
        ("sysfs", paths::SYS),
        ("tmpfs", paths::RUN_ROOT),
    ] {
        let flags = MsFlags::MS_NOSUID
            | if kind == "devtmpfs" {
                MsFlags::empty()
            } else {
                MsFlags::MS_NODEV
            };
        let data = if kind == "tmpfs" {
            Some("mode=0755")
        } else {
            None
        };
        match mount(Some(kind), target, Some(kind), flags, data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(anyhow!(errno).context(format!("mount {target}"))),
        }
    }
    Ok(())
}

/// The kernel's release, which names the folder of its modules (uname(2)).
pub(super) fn kernel_release() -> Result<String> {
    let names = nix::sys::utsname::uname().context("ask for the kernel's release")?;
    names
        .release()
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("the kernel's release is no text"))
}

/// Why a root was not started.
#[derive(Debug)]
pub(super) enum Failed {
    /// It cannot be used; another one can be tried.
    Unusable(anyhow::Error),
    /// It could be entered but not started, and there is no way back: only a restart helps.
    Stranded(anyhow::Error),
}

/// Mounts `device` as root and becomes its init; comes back only with the reason why not.
pub(super) fn start(device: &Path, release: &str, handover: &Handover) -> Failed {
    match prepare(device, release) {
        Err(error) => {
            // What is not mounted cannot be unmounted, and that is fine.
            let _ = umount2(NEW_ROOT, MntFlags::MNT_DETACH);
            Failed::Unusable(error)
        }
        Ok(()) => match switch(handover) {
            Ok(never) => match never {},
            Err(error) => Failed::Stranded(error),
        },
    }
}

fn prepare(device: &Path, release: &str) -> Result<()> {
    mount(
        Some(device),
        NEW_ROOT,
        Some("squashfs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .with_context(|| format!("mount {} as squashfs", device.display()))?;
    let inside = |path: &str| PathBuf::from(format!("{NEW_ROOT}{path}"));
    // A file whose blocks are damaged opens well, and kills PID 1 when it runs into them.
    // What is read stays in memory, where the start needs it.
    File::open(inside(INIT))
        .and_then(|mut file| io::copy(&mut file, &mut io::sink()))
        .with_context(|| format!("read {INIT} of {}", device.display()))?;
    let modules = inside(paths::MODULES).join(release);
    if !modules.is_dir() {
        return Err(anyhow!(
            "{} has no modules for kernel {release}",
            device.display()
        ));
    }
    Ok(())
}

fn switch(handover: &Handover) -> Result<std::convert::Infallible> {
    for target in [paths::DEV, paths::PROC, paths::SYS, paths::RUN_ROOT] {
        let moved = format!("{NEW_ROOT}{target}");
        mount(
            Some(target),
            moved.as_str(),
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .with_context(|| format!("move {target} into the root"))?;
    }
    for path in INITRAMFS_CONTENT {
        // What stays only costs memory.
        let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
    }
    chdir(NEW_ROOT).context("enter the root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move the root")?;
    chroot(".")
        .and_then(|()| chdir("/"))
        .context("change the root")?;
    execve(
        &CString::new(INIT)?,
        &[CString::new(INIT)?],
        &environment(handover)?,
    )
    .context("start stage 2")
}

fn environment(handover: &Handover) -> Result<Vec<CString>> {
    let own = [
        ("GOKRAZY_SLOT", handover.slot.map(|slot| slot.to_string())),
        (
            "GOKRAZY_ATTEMPT",
            handover.attempt.map(|attempt| attempt.to_string()),
        ),
        ("GOKRAZY_FALLBACK", handover.fallback.clone()),
        ("GOKRAZY_DISK", handover.disk.clone()),
    ];
    // The kernel hands over what it does not know of its command line, which need not be text.
    let given = env::vars_os()
        .filter(|(key, _)| !key.as_bytes().starts_with(b"GOKRAZY_"))
        .map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'='));
    let own = own
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value?).into_bytes()));
    given
        .chain(own)
        .map(|entry| CString::new(entry).context("make the environment"))
        .collect()
}

#[cfg(test)]
mod tests {
    use gokrazy_core::slots::SlotName;

    use super::*;

    #[test]
    fn stage_2_learns_what_was_chosen() {
        let handover = Handover {
            slot: Some(SlotName::B),
            attempt: Some(2),
            fallback: None,
            disk: Some("/dev/sdb".to_owned()),
        };
        let environment = environment(&handover).unwrap();
        let has = |text: &str| {
            environment
                .iter()
                .any(|entry| entry.to_bytes() == text.as_bytes())
        };
        assert!(has("GOKRAZY_SLOT=b") && has("GOKRAZY_ATTEMPT=2"));
        assert!(has("GOKRAZY_DISK=/dev/sdb"));
        assert!(
            !environment
                .iter()
                .any(|entry| entry.to_bytes().starts_with(b"GOKRAZY_FALLBACK"))
        );
    }
}
