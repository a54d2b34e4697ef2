//! Files below the folder for temporary ones, which no path may leave.
//!
//! Anybody on the machine may write there, so names are resolved by the kernel with `openat2`: nothing above the
//! folder, no symbolic links.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// Longest path, in bytes.
const MAX_PATH: usize = 1024;

/// Parts of a path that stays where it starts; `None` for an empty one, and for one that climbs, starts at the
/// root or is too long.
pub fn confined(path: &str) -> Option<PathBuf> {
    let path_is_sane = !path.is_empty() && path.len() <= MAX_PATH && !path.contains('\0');
    let parts: Option<PathBuf> = Path::new(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect();
    // `components` passes over what is written twice or at the end; a folder's name is no file's.
    parts.filter(|_| path_is_sane && !path.ends_with('/'))
}

/// A file being written, under a name of its own until it is complete.
pub struct Upload {
    folder: OwnedFd,
    name: OsString,
    temporary: String,
    file: File,
    complete: bool,
}

impl Upload {
    /// Begins a file at `path` below `root`; folders on the way are made, with mode 0711 so that a service can reach
    /// a program whose name it knows.
    ///
    /// # Errors
    /// The errno of the step that failed: `ELOOP` for a symbolic link on the way, `EISDIR` for a folder at its end,
    /// `EPERM` for a folder of somebody else, who could put another file in place of what is uploaded.
    pub fn begin(root: &Path, path: &Path, unique: u64) -> Result<Self, Errno> {
        let name = path.file_name().ok_or(Errno::EISDIR)?.to_owned();
        let mut folder = open_root(root)?;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let part: &Path = part.as_ref();
            match mkdirat(&folder, part, Mode::from_bits_truncate(0o711)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            folder = open_below(&folder, part, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            let owner = fstat(&folder)?.st_uid;
            if owner != 0 && owner != geteuid().as_raw() {
                return Err(Errno::EPERM);
            }
        }
        if is_folder(&folder, Path::new(&name)) {
            return Err(Errno::EISDIR);
        }
        let temporary = format!(".upload-{unique:016x}");
        let how = OpenHow::new()
            .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(0o600))
            .resolve(BENEATH);
        let file = openat2(&folder, temporary.as_str(), how)?.into();
        Ok(Self {
            folder,
            name,
            temporary,
            file,
            complete: false,
        })
    }

    /// Writes what came next.
    ///
    /// # Errors
    /// The errno of writing, `ENOSPC` for instance.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name; a file that had it is gone.
    ///
    /// Not by `gokrazy_core::atomic`, which takes bytes that fit in memory and paths that it may trust.
    ///
    /// # Errors
    /// The errno of renaming.
    pub fn finish(mut self) -> Result<(), Errno> {
        renameat(
            &self.folder,
            self.temporary.as_str(),
            &self.folder,
            self.name.as_os_str(),
        )?;
        self.complete = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.complete {
            // Best effort: what stays is gone with the next boot.
            let _ = unlinkat(
                &self.folder,
                self.temporary.as_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

/// Lets everybody run the file at `path` below `root`.
///
/// # Errors
/// `ENOENT` if there is none, `ELOOP` for a symbolic link, `EACCES` if it is no regular file, `EPERM` if it belongs
/// to somebody else and cannot be run as it is.
pub fn make_executable(root: &Path, path: &Path) -> Result<(), Errno> {
    let root = open_root(root)?;
    // O_NONBLOCK: a FIFO planted there must not hold us up.
    let file = open_below(&root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let mode = fstat(&file)?.st_mode;
    if !is(mode, SFlag::S_IFREG) {
        return Err(Errno::EACCES);
    }
    match fchmod(&file, Mode::from_bits_truncate(0o755)) {
        Err(_) if mode & 0o111 == 0o111 => Ok(()),
        done => done,
    }
}

const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(root, flags, Mode::empty())
}

fn open_below(folder: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(BENEATH);
    openat2(folder, path, how)
}

fn is_folder(folder: &OwnedFd, name: &Path) -> bool {
    nix::sys::stat::fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|status| is(status.st_mode, SFlag::S_IFDIR))
}

fn is(mode: nix::libc::mode_t, kind: SFlag) -> bool {
    mode & SFlag::S_IFMT.bits() == kind.bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root(name: &str) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("gokrazy-web-temp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        root
    }

    fn upload(root: &Path, path: &str, bytes: &[u8]) -> Result<(), Errno> {
        let mut upload = Upload::begin(root, &confined(path).unwrap(), 1)?;
        upload.write(bytes).unwrap();
        upload.finish()
    }

    #[test]
    fn paths_that_leave_are_refused() {
        assert_eq!(confined("gok-run/hello"), Some("gok-run/hello".into()));
        assert_eq!(confined("a//b"), Some("a/b".into()));
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            ".",
            "./a",
            "a/",
            "a\0b",
            &"x".repeat(2000),
        ] {
            assert_eq!(confined(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_upload_appears_whole_and_can_be_made_a_program() {
        let root = root("whole");
        upload(&root, "gok-run/hello", b"old").unwrap();
        upload(&root, "gok-run/hello", b"new").unwrap();
        let path = root.join("gok-run/hello");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        make_executable(&root, Path::new("gok-run/hello")).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        let cut_short = Upload::begin(&root, Path::new("gok-run/half"), 2).unwrap();
        drop(cut_short);
        assert_eq!(fs::read_dir(root.join("gok-run")).unwrap().count(), 1);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn nothing_is_uploaded_into_a_folder_that_somebody_has_put_there() {
        let root = root("squatted");
        let folder = root.join("gok-run");
        fs::create_dir(&folder).unwrap();
        upload(&root, "gok-run/hello", b"x").unwrap();
        std::os::unix::fs::chown(&folder, Some(10_001), None).unwrap();
        assert_eq!(upload(&root, "gok-run/hello", b"y"), Err(Errno::EPERM));
        assert_eq!(fs::read(folder.join("hello")).unwrap(), b"x");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn planted_links_lead_nowhere() {
        let root = root("links");
        let outside = root.with_extension("outside");
        fs::create_dir_all(&outside).unwrap();
        symlink(&outside, root.join("gok-run")).unwrap();
        symlink("/bin/true", root.join("program")).unwrap();
        assert!(upload(&root, "gok-run/hello", b"x").is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(
            make_executable(&root, Path::new("program")),
            Err(Errno::ELOOP)
        );
        // A link in the file's own place is replaced, not followed.
        upload(&root, "program", b"x").unwrap();
        assert!(
            fs::symlink_metadata(root.join("program"))
                .unwrap()
                .is_file()
        );
        fs::create_dir(root.join("folder")).unwrap();
        assert_eq!(upload(&root, "folder", b"x"), Err(Errno::EISDIR));
        assert_eq!(
            make_executable(&root, Path::new("folder")),
            Err(Errno::EACCES)
        );
        assert_eq!(
            make_executable(&root, Path::new("absent")),
            Err(Errno::ENOENT)
        );
        fs::remove_dir_all(root).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }
}
