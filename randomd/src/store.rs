//! The seed folder as a trait, and the real one.
//!
//! Everything goes through one open descriptor of the folder, so that nobody can exchange it under the daemon, and
//! nothing but a regular file is ever read.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::plan::Name;
use crate::seed::MAX_FILE_LEN;

/// Mode of a seed file, SeedRNG's.
const SEED_MODE: Mode = Mode::S_IRUSR;

/// Why a step on the folder was not done.
#[derive(Debug)]
pub enum StoreError {
    /// A system call.
    Call {
        /// What was attempted.
        attempt: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Its errno.
        source: io::Error,
    },
    /// Something else bears the name of a seed.
    NotAFile {
        /// The name.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// What is to hold the seeds is something else.
    NotAFolder(PathBuf),
    /// Another process holds the lock on the folder.
    Busy(PathBuf),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { attempt, path, .. } => write!(f, "{attempt} {}", path.display()),
            Self::NotAFile { path, kind } => write!(
                f,
                "{} is {kind}, not a seed: left unread; remove it",
                path.display()
            ),
            Self::NotAFolder(path) => write!(
                f,
                "{} is not a folder; remove it, or name another by --seed-dir",
                path.display()
            ),
            Self::Busy(path) => write!(
                f,
                "{} is in use by another randomd; stop that one, or send it SIGHUP to save at once",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call { source, .. } => Some(source),
            Self::NotAFile { .. } | Self::NotAFolder(_) | Self::Busy(_) => None,
        }
    }
}

/// A seed file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At most the first [`MAX_FILE_LEN`] bytes and one more.
    pub bytes: Vec<u8>,
    /// Whether somebody else may have planted the file or kept a copy.
    pub exposed: bool,
}

/// What the carrier needs of the folder.
pub trait Store {
    /// Reads a seed; `None` if there is none.
    ///
    /// # Errors
    /// What bears its name is no regular file, or cannot be read.
    fn read(&mut self, name: Name) -> Result<Option<Found>, StoreError>;

    /// Removes a seed, not yet durably.
    ///
    /// # Errors
    /// The errno of `unlinkat(2)`.
    fn remove(&mut self, name: Name) -> Result<(), StoreError>;

    /// Makes removals and renames durable.
    ///
    /// # Errors
    /// The errno of `fsync(2)`.
    fn sync_folder(&mut self) -> Result<(), StoreError>;

    /// Writes a new `seed.no-credit` in place of whatever bears that name, not yet durably.
    ///
    /// # Errors
    /// The errno of the call that failed; no part of the seed is left.
    fn write_seed(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes the content of what [`Store::write_seed`] wrote durable.
    ///
    /// # Errors
    /// The errno of `fsync(2)`; the seed is removed.
    fn sync_seed(&mut self) -> Result<(), StoreError>;

    /// Renames `seed.no-credit` to `seed.credit`, not yet durably.
    ///
    /// # Errors
    /// The errno of `renameat(2)`.
    fn promote(&mut self) -> Result<(), StoreError>;
}

/// A folder on a disk, locked for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
    fresh: Option<File>,
}

impl Folder {
    /// Makes the folder if need be (mode 0700).
    ///
    /// # Errors
    /// [`StoreError::NotAFolder`], or the errno of `mkdir(2)`.
    pub fn create(path: &Path) -> Result<(), StoreError> {
        if path.is_dir() {
            return Ok(());
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|error| not_usable("create folder", path, error))?;
        gokrazy_core::atomic::sync_parent(path).map_err(|error| {
            let source = io::Error::from(error.io_error().kind());
            call("sync the parent of", path)(source)
        })
    }

    /// Opens the folder and locks it.
    ///
    /// # Errors
    /// It is no folder ([`StoreError::NotAFolder`]) or cannot be opened, or another process holds the lock ([`StoreError::Busy`]).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECTORY.bits())
            .open(path)
            .map_err(|error| not_usable("open folder", path, error))?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(call("lock folder", path)(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            handle,
            fresh: None,
        })
    }

    /// Whether somebody removed the folder under us.
    pub fn is_gone(&self) -> bool {
        let metadata = self.handle.metadata();
        metadata.is_ok_and(|metadata| metadata.nlink() == 0)
    }

    fn path_of(&self, name: Name) -> PathBuf {
        self.path.join(name.file())
    }

    fn failed(&self, attempt: &'static str, name: Name, errno: Errno) -> StoreError {
        call(attempt, &self.path_of(name))(errno.into())
    }

    /// Says what bears a seed's name, if that is no regular file.
    fn stranger(&self, name: Name) -> Option<StoreError> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let status = fstatat(self.handle.as_fd(), name.file(), flags).ok()?;
        let kind = match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => return None,
            SFlag::S_IFDIR => "a folder",
            SFlag::S_IFLNK => "a symbolic link",
            SFlag::S_IFIFO => "a FIFO",
            SFlag::S_IFSOCK => "a socket",
            _ => "a device",
        };
        let path = self.path_of(name);
        Some(StoreError::NotAFile { path, kind })
    }

    fn discard_seed(&mut self) {
        self.fresh = None;
        // Best effort: what is left is not creditable, and the next save replaces it.
        let _ = self.remove(Name::NoCredit);
    }
}

impl Store for Folder {
    fn read(&mut self, name: Name) -> Result<Option<Found>, StoreError> {
        // Before the open, which can wake a device or wait for a FIFO's other end; the flags cover the gap between.
        if let Some(stranger) = self.stranger(name) {
            return Err(stranger);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let flags = flags | OFlag::O_CLOEXEC;
        let file = match openat(self.handle.as_fd(), name.file(), flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", name, errno)),
        };
        let path = self.path_of(name);
        let metadata = file.metadata().map_err(call("look at", &path))?;
        if !metadata.is_file() {
            let kind = "something else by now";
            return Err(StoreError::NotAFile { path, kind });
        }
        let mut bytes = Vec::with_capacity(MAX_FILE_LEN);
        // One byte more tells a file that is too long from one that just fits.
        let limit = (MAX_FILE_LEN as u64).saturating_add(1);
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(call("read", &path))?;
        let exposed = is_exposed(&metadata);
        Ok(Some(Found { bytes, exposed }))
    }

    fn remove(&mut self, name: Name) -> Result<(), StoreError> {
        unlinkat(self.handle.as_fd(), name.file(), UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| self.failed("remove", name, errno))
    }

    fn sync_folder(&mut self) -> Result<(), StoreError> {
        let synced = self.handle.sync_all();
        synced.map_err(call("sync folder", &self.path))
    }

    fn write_seed(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let name = Name::NoCredit;
        match unlinkat(self.handle.as_fd(), name.file(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(self.failed("remove", name, errno)),
        }
        // O_EXCL: whatever somebody puts there meanwhile is not written through.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = openat(self.handle.as_fd(), name.file(), flags, SEED_MODE)
            .map(File::from)
            .map_err(|errno| self.failed("create", name, errno))?;
        if let Err(error) = file.write_all(bytes) {
            self.discard_seed();
            return Err(call("write", &self.path_of(name))(error));
        }
        self.fresh = Some(file);
        Ok(())
    }

    fn sync_seed(&mut self) -> Result<(), StoreError> {
        let synced = self.fresh.take().map_or(Ok(()), |file| file.sync_all());
        if let Err(error) = synced {
            self.discard_seed();
            return Err(call("sync", &self.path_of(Name::NoCredit))(error));
        }
        Ok(())
    }

    fn promote(&mut self) -> Result<(), StoreError> {
        let folder = self.handle.as_fd();
        renameat(folder, Name::NoCredit.file(), folder, Name::Credit.file())
            .map_err(|errno| self.failed("rename the new seed to", Name::Credit, errno))
    }
}

/// Another user's file, a file that others can write, or one that stays under another name when it is removed here.
/// The folder's mode says nothing that these do not: who plants a file there owns it.
fn is_exposed(metadata: &Metadata) -> bool {
    let ours = metadata.uid() == geteuid().as_raw() || metadata.uid() == 0;
    !ours || metadata.mode() & 0o002 != 0 || metadata.nlink() != 1
}

fn not_usable(attempt: &'static str, path: &Path, error: io::Error) -> StoreError {
    // mkdir(2) and open(2) blame a file among the parents with the same errno.
    let is_there = path.symlink_metadata().is_ok() && !path.is_dir();
    match is_there {
        true => StoreError::NotAFolder(path.to_owned()),
        false => call(attempt, path)(error),
    }
}

fn call(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Call {
        attempt,
        path,
        source,
    }
}
