//! Properties of mounts that mount(2) cannot set for a whole tree.
#![expect(unsafe_code, reason = "mount_setattr(2) takes a raw structure")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// linux/mount.h: `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

// linux/mount.h: MOUNT_ATTR_SIZE_VER0.
const _: () = assert!(size_of::<MountAttr>() == 32);

/// linux/mount.h: `MOUNT_ATTR_RDONLY`.
const RDONLY: u64 = 1;

/// linux/fcntl.h: `AT_RECURSIVE`.
const RECURSIVE: libc::c_uint = 0x8000;

/// What becomes of a tree of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It can only be read.
    ReadOnly,
    /// It can be written to.
    Writable,
}

/// mount_setattr(2) with `AT_RECURSIVE`: makes the mount at `path` and all below it read-only or writable.
///
/// # Errors
/// The errno: `ENOSYS` before Linux 5.12, `EINVAL` if `path` is no mount point, `EPERM`.
pub fn set_access(path: &Path, access: Access) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (attr_set, attr_clr) = match access {
        Access::ReadOnly => (RDONLY, 0),
        Access::Writable => (0, RDONLY),
    };
    let attributes = MountAttr {
        attr_set,
        attr_clr,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and attributes outlive the call, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
