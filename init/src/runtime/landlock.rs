//! Landlock around a service: it reads and runs what its user may, and writes only where it is told.
//!
//! A second line behind the read-only view of [`super::fences`], and the only one for what is mounted later.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gokrazy_core::paths;
use gokrazy_sys::landlock::{self, access};
use nix::libc;

const READ: u64 = access::EXECUTE | access::READ_FILE | access::READ_DIR;

/// Writing that the version at hand can refuse.
const WRITE: u64 = access::WRITE_FILE | access::CHANGE_DIR | access::REFER;

/// The first version moves no file between folders, not even below a service's home: that is no fence but a defect.
const OLDEST: u32 = 2;

/// The version that tells cutting a file short from writing to it.
const WITH_TRUNCATE: u32 = 3;

/// Where every service may write, as far as its user may: devices, its own entries of `/proc`, temporary files.
pub(super) fn everybodys() -> Vec<PathBuf> {
    [paths::DEV, paths::PROC, paths::TEMP]
        .map(PathBuf::from)
        .to_vec()
}

/// Puts this process under the rules; places that are not there are passed over.
///
/// # Errors
/// The errno: `ENOSYS` or `EOPNOTSUPP` where the kernel has no Landlock or too old a one, `EPERM` for who is not root
/// and may gain privileges.
pub(super) fn raise(writable: &[PathBuf]) -> io::Result<()> {
    let version = landlock::version()?;
    if version < OLDEST {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let write = if version < WITH_TRUNCATE {
        WRITE
    } else {
        WRITE | access::TRUNCATE
    };
    let rules = landlock::ruleset(READ | write)?;
    landlock::allow_beneath(&rules, open(Path::new("/"))?, READ)?;
    for path in writable {
        let Ok(place) = open(path) else {
            continue;
        };
        let of_folder = access::READ_DIR | access::CHANGE_DIR | access::REFER;
        let kinds = match place.metadata()?.is_dir() {
            true => READ | write,
            false => (READ | write) & !of_folder,
        };
        landlock::allow_beneath(&rules, place, kinds)?;
    }
    landlock::restrict_self(&rules)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags(libc::O_PATH);
    options.open(path)
}
