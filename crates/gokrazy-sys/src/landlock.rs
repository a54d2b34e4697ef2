//! Landlock: a process gives up access to files, and `exec` keeps it so (`landlock(7)`).
#![expect(unsafe_code, reason = "the calls of landlock(7) take raw structures")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// linux/landlock.h: `struct landlock_ruleset_attr` as the first version has it; later fields are 0 then.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// linux/landlock.h: `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

// linux/landlock.h: the sizes that the kernel asks for.
const _: () = assert!(size_of::<RulesetAttr>() == 8);
const _: () = assert!(size_of::<PathBeneathAttr>() == 12);

/// linux/landlock.h: `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;

/// linux/landlock.h: `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: u32 = 1;

/// Kinds of access, bits of linux/landlock.h.
pub mod access {
    /// Run a file.
    pub const EXECUTE: u64 = 1;
    /// Open a file for writing.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open a file for reading.
    pub const READ_FILE: u64 = 1 << 2;
    /// List a folder.
    pub const READ_DIR: u64 = 1 << 3;
    /// Remove folders and files, make files of each of the seven kinds: bits 4 to 12.
    pub const CHANGE_DIR: u64 = 0x1FF << 4;
    /// Move or link a file to another folder (second version, Linux 5.19); the first allows it nowhere.
    pub const REFER: u64 = 1 << 13;
    /// Cut a file short (third version, Linux 6.2); earlier ones allow it everywhere.
    pub const TRUNCATE: u64 = 1 << 14;
}

/// landlock_create_ruleset(2) with `LANDLOCK_CREATE_RULESET_VERSION`: which version of Landlock the kernel has.
///
/// # Errors
/// `ENOSYS` where it is not built in, `EOPNOTSUPP` where it is switched off (`lsm=` on the kernel's command line).
pub fn version() -> io::Result<u32> {
    // SAFETY: with this flag the kernel reads no structure: pointer and size are to be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// landlock_create_ruleset(2): rules that refuse the kinds of access in `handled` but where [`allow_beneath`] says.
///
/// # Errors
/// The errno: `EINVAL` for a kind that this version does not know, and those of [`version`].
pub fn ruleset(handled: u64) -> io::Result<OwnedFd> {
    let attributes = RulesetAttr {
        handled_access_fs: handled,
    };
    // SAFETY: the structure outlives the call, and the size is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<RulesetAttr>(),
            0_u32,
        )
    };
    let number = i32::try_from(result).unwrap_or(-1);
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// landlock_add_rule(2): allows `access` to `parent` and, for a folder, to all beneath.
///
/// # Errors
/// The errno: `EINVAL` for a kind of access that the rules do not handle, or that a plain file cannot have.
pub fn allow_beneath(ruleset: impl AsFd, parent: impl AsFd, access: u64) -> io::Result<()> {
    let attributes = PathBeneathAttr {
        allowed_access: access,
        parent_fd: parent.as_fd().as_raw_fd(),
    };
    // SAFETY: the structure outlives the call and is laid out as the kernel reads it; both descriptors are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_fd().as_raw_fd(),
            PATH_BENEATH,
            &raw const attributes,
            0_u32,
        )
    };
    done(result)
}

/// landlock_restrict_self(2): puts this thread, and what it becomes by `exec`, under the rules; it cannot be undone.
///
/// # Errors
/// The errno: `EPERM` without `no_new_privs` and `CAP_SYS_ADMIN`, `E2BIG` after 16 times.
pub fn restrict_self(ruleset: impl AsFd) -> io::Result<()> {
    // SAFETY: the call takes an open descriptor and a number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_fd().as_raw_fd(),
            0_u32,
        )
    };
    done(result)
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
