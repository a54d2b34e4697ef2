//! The `PATH` of this process, and so of all that it starts: the folders for the administrator and our own are in it.
//!
//! Tests look for their peers in `PATH`, cargo stands between them and us, and a process can change its own
//! environment safely only by starting anew; so this does, once, before any verb.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::unpack;
use crate::process;
use crate::workspace::Workspace;

/// Folders that the `PATH` of users often lacks, and Debian's programs for network and disks lie in.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Starts this program anew, as the same process, if its `PATH` is not complete.
///
/// # Errors
/// The workspace's path holds a colon, so it cannot be in `PATH`; or what the kernel says against the start.
pub(crate) fn complete(workspace: &Workspace) -> Result<()> {
    let present = env::var_os("PATH").unwrap_or_default();
    let folders = ADMINISTRATORS
        .into_iter()
        .map(PathBuf::from)
        .chain([unpack::programs(workspace)]);
    let Some(wanted) = extended(&present, folders)? else {
        return Ok(());
    };
    let error = process::ourselves()
        .args(env::args_os().skip(1))
        .env("PATH", wanted)
        .exec();
    Err(error).context("start cargo xtask anew")
}

/// `path` with those of `folders` that it lacks at its end, or `None` if it lacks none; pure.
///
/// At the end, because what is installed goes before what is unpacked.
fn extended(path: &OsStr, folders: impl Iterator<Item = PathBuf>) -> Result<Option<OsString>> {
    let mut all: Vec<PathBuf> = env::split_paths(path).collect();
    let before = all.len();
    for folder in folders {
        if !all.contains(&folder) {
            all.push(folder);
        }
    }
    if all.len() == before {
        return Ok(None);
    }
    env::join_paths(all)
        .map(Some)
        .context("put the target folder's programs into PATH: no colon may be in its name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, folders: &[&str], want: Option<&str>) {
        let folders = folders.iter().map(PathBuf::from);
        let got = extended(OsStr::new(path), folders).unwrap();
        assert_eq!(got.as_deref(), want.map(OsStr::new), "{path}");
    }

    #[test]
    fn only_what_is_missing_is_added_and_comes_last() {
        check("/bin", &["/sbin", "/t/bin"], Some("/bin:/sbin:/t/bin"));
        check(
            "/sbin:/bin",
            &["/sbin", "/t/bin"],
            Some("/sbin:/bin:/t/bin"),
        );
        check("/bin:/sbin:/t/bin", &["/sbin", "/t/bin"], None);
    }

    #[test]
    fn a_colon_in_a_folder_s_name_is_told() {
        assert!(extended(OsStr::new("/bin"), [PathBuf::from("/a:b")].into_iter()).is_err());
    }
}
