//! Folders that are to be a service's own, made by root where services may have put anything.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode as FileMode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

/// Makes a folder of the service's user; what is there belongs to whom it belongs, for another service may share it.
///
/// # Errors
/// Why the service may not be able to write there, for people.
pub(super) fn make_own(path: &Path, owner: u32) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.uid() == owner => Ok(()),
        Ok(there) => Err(format!(
            "it belongs to user {} and stays so: see that user {owner} may write to it",
            there.uid()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(path, owner).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Makes a folder and those above it, step by step from the root: no link of the service's, or of another's, leads us
/// elsewhere.
fn make_folder(path: &Path, owner: u32) -> io::Result<()> {
    let names: Vec<&OsStr> = path.iter().skip(1).collect();
    let (last, above) = names.split_last().ok_or(Errno::EEXIST)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = open("/", flags | OFlag::O_PATH, FileMode::empty())?;
    for name in above {
        folder = enter_or_make(&folder, name, owner)?;
    }
    let mode = FileMode::from_bits_truncate(0o755);
    mkdirat(&folder, *last, mode)?;
    let made = openat(&folder, *last, flags | OFlag::O_NOFOLLOW, FileMode::empty())?;
    if fstat(&made)?.st_uid != geteuid().as_raw() {
        return Err(io::Error::other("somebody put another in its place"));
    }
    let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    Ok(fchown(&made, Some(user), Some(group))?)
}

/// A folder in which we may make what is the owner's: one of root's or of its own.
fn enter_or_make(folder: &OwnedFd, name: &OsStr, owner: u32) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, FileMode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_NOFOLLOW, !is_roots(folder, name)?);
    let entered = openat(folder, name, flags, FileMode::empty())?;
    let user = fstat(&entered)?.st_uid;
    if ![0, owner, geteuid().as_raw()].contains(&user) {
        let name = Path::new(name).display();
        let why = format!("`{name}` in it belongs to user {user}, so nothing is made there");
        return Err(io::Error::other(why));
    }
    Ok(entered)
}

/// Whether root put it there and nobody else could: its links are followed, as `/var` may be one.
fn is_roots(folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let above = fstat(folder)?;
    let itself = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let is_others = above.st_mode & 0o022 != 0;
    Ok(above.st_uid == 0 && itself.st_uid == 0 && !is_others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_folder_is_made_and_a_strangers_left_alone() {
        let top = std::env::temp_dir().join(format!("in-writable-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir(&top).unwrap();
        let own = top.join("a/b");
        let me = nix::unistd::geteuid();
        // Only root can give a folder away.
        let user = if me.is_root() { 12_345 } else { me.as_raw() };
        assert_eq!(make_own(&own, user), Ok(()));
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!((owner(&own), owner(&top.join("a"))), (user, me.as_raw()));
        assert_eq!(make_own(&own, user), Ok(()), "it is its own already");
        let told = make_own(&own, 23_456).unwrap_err();
        assert!(
            told.starts_with(&format!("it belongs to user {user}")),
            "{told}"
        );
        assert_eq!(owner(&own), user);
        // A link may lead anywhere.
        let link = top.join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(make_own(&link, 23_456).is_err());
        assert_eq!((owner(&link), owner(Path::new("/etc"))), (me.as_raw(), 0));
        // Nor is one followed on the way, which the service may have made in its own folder.
        let victim = top.join("victim");
        fs::create_dir(&victim).unwrap();
        std::os::unix::fs::symlink(&victim, own.join("link")).unwrap();
        assert!(make_own(&own.join("link/new"), user).is_err());
        assert!(make_own(&own.join("link/new/deep"), user).is_err());
        assert!(fs::read_dir(&victim).unwrap().next().is_none());
        if me.is_root() {
            let told = make_own(&own.join("new"), 23_456).unwrap_err();
            assert!(
                told.contains(&format!("`b` in it belongs to user {user}")),
                "{told}"
            );
        }
        fs::remove_dir_all(top).unwrap();
    }
}
