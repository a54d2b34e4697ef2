//! Fences around a service: a view of its own of the file system, and system calls that it does not get.
//!
//! Which fences a service has is decided before the clone ([`Fences::of`]); the child raises them.
//! One that the kernel does not give is told, and the service runs without it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use gokrazy_core::paths;
use gokrazy_sys::mount::{Access, set_access};
use gokrazy_sys::seccomp;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::landlock;
use super::options::Mode;
use crate::service::{Service, User, capabilities};

/// The fences of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fences {
    /// Whether set-user-id programs give it nothing.
    pub no_new_privileges: bool,
    /// Whether its `/tmp` is its own.
    pub private_tmp: bool,
    /// Its program, where that lies in the `/tmp` of all: one that was diverted to does.
    pub program: Option<PathBuf>,
    /// Where it may write, if it may not write everywhere.
    pub writable: Option<Vec<PathBuf>>,
    /// Where Landlock lets it write, if that is to watch over it.
    pub landlock: Option<Vec<PathBuf>>,
    /// System calls that it does not get.
    pub refused: Vec<i64>,
}

impl Fences {
    /// The fences of a service: on for one with a user of its own, unless its table says otherwise.
    ///
    /// In a container whoever made it has decided on the view already, so that fence is up only if asked for.
    /// `program` is what will run.
    pub fn of(service: &Service, mode: Mode, home: Option<&Path>, program: &str) -> Self {
        let wanted = service.isolation;
        let own_user = service.user == User::Auto;
        let own_view = own_user && mode == Mode::Machine;
        let writable = || -> Vec<PathBuf> {
            home.map(Path::to_owned)
                .into_iter()
                .chain(service.writable.clone())
                .collect()
        };
        // Who may mount must not be under Landlock, which forbids it to everybody.
        let mounts = keeps(service.capabilities, "sys-admin");
        let landlock = wanted.landlock.unwrap_or(own_view && !mounts);
        Self {
            no_new_privileges: wanted.no_new_privileges.unwrap_or(own_user),
            private_tmp: wanted.private_tmp.unwrap_or(own_view),
            program: lies_in_tmp(program),
            writable: wanted.read_only.unwrap_or(own_view).then(writable),
            landlock: landlock.then(|| [writable(), landlock::everybodys()].concat()),
            refused: if wanted.seccomp.unwrap_or(own_user) {
                refused(service.capabilities)
            } else {
                Vec::new()
            },
        }
    }

    /// Gives this process a view of its own; to be called as root.
    ///
    /// # Errors
    /// The name of the fence, and the errno.
    pub fn raise_view(&self) -> Result<(), (&'static str, io::Error)> {
        if !self.private_tmp && self.writable.is_none() {
            return Ok(());
        }
        let own_mounts = || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            // What is mounted later shows up here too; nothing of ours shows up there.
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_SLAVE,
                None::<&str>,
            )
        };
        own_mounts().map_err(|errno| ("own mounts", errno.into()))?;
        if let Some(writable) = &self.writable {
            read_only_but(writable).map_err(|error| ("read-only", error))?;
        }
        if self.private_tmp {
            own_tmp(self.program.as_deref()).map_err(|error| ("private-tmp", error))?;
        }
        Ok(())
    }

    /// Lets Landlock watch over where this process writes; to be called as root, or without new privileges.
    ///
    /// # Errors
    /// The errno: `ENOSYS` or `EOPNOTSUPP` where the kernel has no Landlock.
    pub fn raise_landlock(&self) -> io::Result<()> {
        match &self.landlock {
            None => Ok(()),
            Some(writable) => landlock::raise(writable),
        }
    }

    /// Refuses system calls to the program that will run; the last step before it runs.
    ///
    /// # Errors
    /// The errno.
    pub fn raise_filter(&self) -> io::Result<()> {
        if self.refused.is_empty() {
            Ok(())
        } else {
            seccomp::refuse(&self.refused)
        }
    }
}

fn read_only_but(writable: &[PathBuf]) -> io::Result<()> {
    let is_there = |path: &&PathBuf| path.exists();
    for path in writable.iter().filter(is_there) {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(path), path, None::<&str>, flags, None::<&str>)?;
    }
    set_access(Path::new("/"), Access::ReadOnly)?;
    for path in writable.iter().filter(is_there) {
        set_access(path, Access::Writable)?;
    }
    Ok(())
}

/// A path through `..` leads who knows where, and gets nothing.
fn lies_in_tmp(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    let straight = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    (straight && path.starts_with(paths::TEMP)).then(|| path.to_owned())
}

/// An empty `/tmp`, but for the program that will run: that one stays where its caller put it.
fn own_tmp(program: Option<&Path>) -> io::Result<()> {
    // Held over the mount that hides it; whether it is there at all is told by the attempt to run it.
    let held = program.and_then(|path| {
        let mut options = File::options();
        options.read(true);
        options.custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
        Some((path, options.open(path).ok()?))
    });
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        paths::TEMP,
        Some("tmpfs"),
        flags,
        Some("mode=1777"),
    )?;
    held.map_or(Ok(()), |(path, file)| show(&file, path))
}

/// Shows the file at `path` again.
fn show(file: &File, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    File::create_new(path)?;
    let held = Path::new(paths::PROC_SELF_FD).join(file.as_raw_fd().to_string());
    mount(
        Some(&held),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

/// `kexec_file_load`: libc lacks its number for arm64 with musl (`<asm-generic/unistd.h>`).
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: i64 = 294;
#[cfg(not(target_arch = "aarch64"))]
const KEXEC_FILE_LOAD: i64 = libc::SYS_kexec_file_load;

/// System calls that no service needs, and the capability that says it needs them all the same (linux/capability.h).
const REFUSED: &[(i64, &str)] = &[
    (libc::SYS_init_module, "sys-module"),
    (libc::SYS_finit_module, "sys-module"),
    (libc::SYS_delete_module, "sys-module"),
    (libc::SYS_reboot, "sys-boot"),
    (libc::SYS_kexec_load, "sys-boot"),
    (KEXEC_FILE_LOAD, "sys-boot"),
    (libc::SYS_settimeofday, "sys-time"),
    (libc::SYS_clock_settime, "sys-time"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_perf_event_open, "perfmon"),
    (libc::SYS_syslog, "syslog"),
    (libc::SYS_acct, "sys-pacct"),
    (libc::SYS_swapon, "sys-admin"),
    (libc::SYS_swapoff, "sys-admin"),
    (libc::SYS_mount, "sys-admin"),
    (libc::SYS_umount2, "sys-admin"),
    (libc::SYS_pivot_root, "sys-admin"),
    (libc::SYS_move_mount, "sys-admin"),
    (libc::SYS_open_tree, "sys-admin"),
    (libc::SYS_fsopen, "sys-admin"),
    (libc::SYS_fspick, "sys-admin"),
    (libc::SYS_fsmount, "sys-admin"),
    (libc::SYS_fsconfig, "sys-admin"),
    (libc::SYS_mount_setattr, "sys-admin"),
    (libc::SYS_setns, "sys-admin"),
    (libc::SYS_quotactl, "sys-admin"),
    (libc::SYS_add_key, "sys-admin"),
    (libc::SYS_request_key, "sys-admin"),
    (libc::SYS_keyctl, "sys-admin"),
    (libc::SYS_userfaultfd, "sys-ptrace"),
    (libc::SYS_open_by_handle_at, "dac-read-search"),
    (libc::SYS_vhangup, "sys-tty-config"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "sys-rawio"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "sys-rawio"),
];

fn keeps(kept: u64, capability: &str) -> bool {
    capabilities::parse(capability).is_some_and(|number| kept & (1 << number) != 0)
}

fn refused(kept: u64) -> Vec<i64> {
    REFUSED
        .iter()
        .filter(|(_, need)| !keeps(kept, need))
        .map(|(number, _)| *number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Isolation;

    #[test]
    fn fences_are_up_for_own_users_and_each_can_be_moved() {
        let home = Path::new("/home/a");
        let own = Service {
            writable: vec!["/data".into()],
            ..Service::new("a", &["/a"])
        };
        let on_device = Fences::of(&own, Mode::Machine, Some(home), "/a");
        assert!(
            on_device.no_new_privileges && on_device.private_tmp && !on_device.refused.is_empty()
        );
        let watched = on_device.landlock.unwrap();
        assert!(
            ["/home/a", "/data", "/tmp"]
                .map(PathBuf::from)
                .iter()
                .all(|path| watched.contains(path))
        );
        let mounter = Service {
            capabilities: 1 << capabilities::parse("sys-admin").unwrap(),
            ..own.clone()
        };
        assert_eq!(
            Fences::of(&mounter, Mode::Machine, None, "/a").landlock,
            None
        );
        assert_eq!(
            on_device.writable,
            Some(vec!["/home/a".into(), "/data".into()])
        );

        let in_container = Fences::of(&own, Mode::Guest, Some(home), "/a");
        assert!(
            in_container.no_new_privileges
                && !in_container.private_tmp
                && in_container.writable.is_none()
                && in_container.landlock.is_none()
        );

        let root = own.clone().user(User::Id(0));
        assert_eq!(
            Fences::of(&root, Mode::Machine, Some(home), "/a"),
            Fences::default()
        );

        let isolation = Isolation {
            private_tmp: Some(false),
            seccomp: Some(false),
            ..Isolation::default()
        };
        let loosened = Fences::of(&Service { isolation, ..own }, Mode::Machine, None, "/a");
        assert!(
            !loosened.private_tmp && loosened.refused.is_empty() && loosened.writable.is_some()
        );
    }

    #[test]
    fn only_a_program_straight_below_tmp_is_shown_in_an_own_one() {
        let shown = |program| lies_in_tmp(program).is_some();
        assert!(shown("/tmp/upload/a") && shown("/tmp/a"));
        for other in ["/user/a", "a", "/tmpfile", "/tmp/../etc/shadow", "tmp/a"] {
            assert!(!shown(other), "{other}");
        }
    }

    #[test]
    fn a_capability_brings_its_calls_back() {
        let time = 1 << capabilities::parse("sys-time").unwrap();
        assert!(refused(0).contains(&libc::SYS_clock_settime));
        assert!(!refused(time).contains(&libc::SYS_clock_settime));
        assert!(refused(time).contains(&libc::SYS_reboot));
        for (_, need) in REFUSED {
            assert!(capabilities::parse(need).is_some(), "{need}");
        }
    }
}
