//! Replace a file whole: a reader, or the machine after a power cut, sees the old content or the new, never half.
//!
//! The only caller of `rename` and the only creator of shared files.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Whether the bytes must be on the disk before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Sync file and folder: for `/perm`, where power can fail at any instant.
    Synced,
    /// Leave it to the kernel: for `/run`, which lives in memory.
    Volatile,
}

/// A file could not be replaced; the old content is still in place.
#[derive(Debug)]
pub struct ReplaceError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl ReplaceError {
    /// The errno behind it, for callers that treat a full disk or a read-only one in their own way.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }

    /// The same failure for a reason that lies before it, as that its folder could not be made.
    #[must_use]
    pub fn because(self, source: io::Error) -> Self {
        Self { source, ..self }
    }
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.step, self.path.display())
    }
}

impl std::error::Error for ReplaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Replaces `path` by a file with these `bytes` and permission bits `mode`: temporary file beside the target,
/// write, sync, rename, sync of the folder (`rename(2)`, `fsync(2)`).
///
/// # Errors
/// The step that failed and its errno; the temporary file is removed and the old file left as it was.
pub fn replace(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), ReplaceError> {
    let temporary = temporary_path(path);
    let written = write_temporary(&temporary, bytes, mode, durability)
        .and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // Best effort: what cannot be removed now is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match durability {
        Durability::Synced => sync_parent(path),
        Durability::Volatile => Ok(()),
    }
}

/// Gives the file `path` this content where it stands, for files that cannot be replaced: mount points (`EBUSY`), and
/// those in folders where we may create nothing. A reader can see half of it.
///
/// # Errors
/// The step that failed and its errno; `ELOOP` for a link, which is not written through.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), ReplaceError> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .truncate(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits());
    let mut file = options
        .open(path)
        .map_err(|source| failed("open", path, source))?;
    file.write_all(bytes)
        .map_err(|source| failed("write", path, source))
}

/// Syncs the folder that holds `path`, so that a creation, rename or removal in it survives a power cut.
///
/// # Errors
/// The errno of opening or syncing the folder.
pub fn sync_parent(path: &Path) -> Result<(), ReplaceError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|source| failed("sync folder", folder, source))
}

/// The name starts with a dot, so that readers which list a folder of state files pass it over.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// What an interrupted attempt left behind, or somebody who may write beside the target has planted; a folder with
/// something in it stays an error.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(path),
        result => result,
    }
}

fn write_temporary(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), ReplaceError> {
    // O_EXCL keeps us from writing through a planted link.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_leftover(path).map_err(|source| failed("remove", path, source))?;
            options.open(path)
        }
        opened => opened,
    }
    .map_err(|source| failed("create", path, source))?;
    file.write_all(bytes)
        .map_err(|source| failed("write", path, source))?;
    // The umask has narrowed `mode` at creation.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(|source| failed("set mode of", path, source))?;
    match durability {
        Durability::Synced => file
            .sync_all()
            .map_err(|source| failed("sync", path, source)),
        Durability::Volatile => Ok(()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module is where the rule points to"
)]
fn rename(from: &Path, to: &Path) -> Result<(), ReplaceError> {
    fs::rename(from, to).map_err(|source| failed("replace", to, source))
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> ReplaceError {
    ReplaceError {
        step,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("gokrazy-core-atomic-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn replaces_content_and_mode_and_leaves_nothing_behind() {
        let folder = folder("whole");
        let path = folder.join("state");
        replace(&path, b"old", 0o644, Durability::Volatile).unwrap();
        replace(&path, b"new", 0o600, Durability::Synced).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_overwritten_stays_the_same_file() {
        let folder = folder("overwrite");
        let path = folder.join("state");
        assert!(overwrite(&path, b"new").is_err(), "it is not made");
        replace(&path, b"longer than the new", 0o600, Durability::Volatile).unwrap();
        let link = folder.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        overwrite(&path, b"new").unwrap();
        assert!(overwrite(&link, b"through").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_planted_link_is_not_written_through() {
        let folder = folder("link");
        let victim = folder.join("victim");
        replace(&victim, b"kept", 0o600, Durability::Volatile).unwrap();
        std::os::unix::fs::symlink(&victim, folder.join(".state.new")).unwrap();
        replace(&folder.join("state"), b"new", 0o644, Durability::Volatile).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_planted_folder_is_in_nobodys_way() {
        let folder = folder("planted");
        fs::create_dir(folder.join(".state.new")).unwrap();
        let path = folder.join("state");
        replace(&path, b"new", 0o644, Durability::Volatile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_failure_names_step_and_path_and_keeps_the_old_file() {
        let folder = folder("fail");
        let error = replace(
            &folder.join("absent/state"),
            b"x",
            0o600,
            Durability::Volatile,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("create {}", folder.join("absent/.state.new").display())
        );
        assert_eq!(error.io_error().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(folder).unwrap();
    }
}
