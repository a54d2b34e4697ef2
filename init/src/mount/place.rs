//! A mount point, held open: reached through no link, for whoever may write to a folder above it could lead us anywhere.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use gokrazy_core::paths;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// A folder, and what lies on it if something is mounted there.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    /// Opens a folder by its absolute path; it and those above it are made where they are absent.
    ///
    /// # Errors
    /// The errno of the step that failed; a link, or what is no folder, is told in words.
    pub(super) fn open(target: &Path) -> io::Result<Self> {
        let mut folder = open("/", FLAGS, Mode::empty())?;
        for name in target.iter().skip(1) {
            folder = match enter(&folder, name) {
                Err(Errno::ENOENT) => {
                    match mkdirat(&folder, name, Mode::from_bits_truncate(0o755)) {
                        // Another mount's helper may have made it meanwhile.
                        Ok(()) | Err(Errno::EEXIST) => enter(&folder, name)?,
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let why = format!("`{}` is no folder, or a link", name.to_string_lossy());
                    return Err(io::Error::other(why));
                }
                entered => entered?,
            };
        }
        Ok(Self(folder))
    }

    /// The way by which it is mounted on, whatever its path leads to by now.
    pub(super) fn path(&self) -> PathBuf {
        Path::new(paths::PROC_SELF_FD).join(self.0.as_raw_fd().to_string())
    }
}

const FLAGS: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

fn enter(folder: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(folder, name, FLAGS, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_place_is_made_and_no_link_is_followed() {
        let top = std::env::temp_dir().join(format!("in-mount-place-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        // The folder of temporary files may be a link itself.
        fs::create_dir_all(&top).unwrap();
        let top = fs::canonicalize(top).unwrap();
        let made = top.join("a/b");
        let place = Place::open(&made).unwrap();
        assert_eq!(fs::canonicalize(place.path()).unwrap(), made);
        fs::create_dir(top.join("victim")).unwrap();
        std::os::unix::fs::symlink("victim", top.join("link")).unwrap();
        for through in ["link", "link/deep"] {
            let error = Place::open(&top.join(through)).unwrap_err().to_string();
            assert_eq!(error, "`link` is no folder, or a link", "{through}");
        }
        assert_eq!(fs::read_dir(top.join("victim")).unwrap().count(), 0);
        fs::remove_dir_all(top).unwrap();
    }
}
