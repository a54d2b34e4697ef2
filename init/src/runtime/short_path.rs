//! Paths of sockets that are longer than an address holds (`unix(7)`: 108 bytes with the NUL).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gokrazy_core::paths;

/// Longest path that an address holds, in bytes.
const LONGEST: usize = 107;

/// A path that an address holds, valid as long as the value lives.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl ShortPath {
    /// Another path to the same place: through a descriptor of its folder, where its own is too long.
    ///
    /// # Errors
    /// The errno of opening the folder.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if fits(path) {
            return Ok(Self {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let flags = nix::libc::O_PATH | nix::libc::O_DIRECTORY;
        let folder = File::options()
            .read(true)
            .custom_flags(flags)
            .open(folder)?;
        let number = folder.as_raw_fd().to_string();
        Ok(Self {
            path: Path::new(paths::PROC_SELF_FD).join(number).join(name),
            _folder: Some(folder),
        })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether an address holds a path as it is.
pub fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_reached_by_a_short_one() {
        let start = std::env::temp_dir().join(format!("gokrazy-short-{}", std::process::id()));
        let folder = start.join("x".repeat(150));
        std::fs::create_dir_all(folder.join("a")).unwrap();
        let long = ShortPath::of(&folder.join("a")).unwrap();
        assert!(fits(long.path()));
        assert!(long.path().is_dir());
        std::fs::remove_dir_all(start).unwrap();
        let short = Path::new("/run/a");
        assert_eq!(ShortPath::of(short).unwrap().path(), short);
        assert!(fits(Path::new(&"x".repeat(107))) && !fits(Path::new(&"x".repeat(108))));
    }
}
