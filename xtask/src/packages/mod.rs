//! Debian's kernel and firmware packages, fetched into the target folder.
//!
//! A private apt root below `target/packages/apt-<arch>` has the host's own sources, widened (see [`sources`]); apt
//! verifies signatures there, and nothing on the host changes: no architecture is added, no list refreshed.
//! What was chosen is written to a lock file per board, with sizes and hashes.
//! As long as that and the files it names are whole, no network is needed and the same bytes come out.
//!
//! A package whose size or hash is wrong is fetched again; one that cannot be fetched leaves all others as they are.

mod apt;
mod board;
mod host;
mod listing;
mod lock;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gokrazy_core::atomic::{self, Durability};

use host::Lists;
pub(crate) use lock::{Entry, Lock};

use crate::image::Board;
use crate::out::say;
use crate::process;
use crate::workspace::Workspace;

/// The unpacked packages of a board.
#[derive(Debug)]
pub(crate) struct Fetched {
    lock: Lock,
    trees: PathBuf,
}

impl Fetched {
    /// Files of the package whose name starts with `prefix` lie below this folder.
    ///
    /// # Errors
    /// No such package is in the lock file.
    pub(crate) fn tree(&self, prefix: &str) -> Result<PathBuf> {
        let begins = |group: &Vec<&Entry>| {
            let first = group.first();
            first.is_some_and(|entry| entry.file.starts_with(prefix))
        };
        let group = self.lock.groups().into_iter().find(begins);
        group
            .map(|group| self.trees.join(lock::tree_name(&group)))
            .with_context(|| format!("find package {prefix}… in the lock file; `cargo xtask setup --update` renews it"))
    }

    /// All file names, which hold names and versions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.lock.entries.iter().map(|entry| entry.file.as_str())
    }
}

/// Whether all packages of `board` are here and whole.
pub(crate) fn is_cached(workspace: &Workspace, board: Board) -> bool {
    let folder = Folder::of(workspace);
    Lock::load(&folder.lock(board)).is_ok_and(|lock| {
        lock.groups().iter().all(|group| {
            let whole = |entry: &&Entry| entry.is_whole(&folder.deb(entry));
            listing::matches(&folder.unpacked(group)) || group.iter().all(whole)
        })
    })
}

/// The packages of `board`, fetched and unpacked if need be; `refresh` looks for newer ones first.
///
/// # Errors
/// No sources, no network, or a package that is not what its index says; the cache stays as it was.
pub(crate) fn ensure(workspace: &Workspace, board: Board, refresh: bool) -> Result<Fetched> {
    let folder = Folder::of(workspace);
    let path = folder.lock(board);
    let lock = match Lock::load(&path) {
        Ok(lock) if !refresh => lock,
        _ => {
            say!(
                "looking for kernel and firmware packages for {}",
                board.word()
            );
            let lock = board::resolve(&folder.0, board)?;
            atomic::replace(&path, lock.render().as_bytes(), 0o644, Durability::Volatile)?;
            lock
        }
    };
    for group in lock.groups() {
        ensure_tree(&folder, board, &group)?;
    }
    Ok(Fetched {
        lock,
        trees: folder.0.join("trees"),
    })
}

/// Fetches the packages of one tree, and unpacks them, as far as that is not done.
fn ensure_tree(folder: &Folder, board: Board, group: &[&Entry]) -> Result<()> {
    let tree = folder.unpacked(group);
    let unpacked = listing::matches(&tree);
    for entry in group {
        let deb = folder.deb(entry);
        // What was whole when it was unpacked, and was not written since, need not be read again.
        if unpacked && entry.has_size_of(&deb) && is_older(&deb, &tree) {
            continue;
        }
        let fetched = fetch(folder, entry, |path| {
            board::root(&folder.0, board)?.download(entry, path)
        });
        match fetched {
            Ok(()) => {}
            // Nothing is missing for a build.
            Err(error) if unpacked => {
                eprintln!("xtask: {error:#}; going on with its unpacked files");
            }
            Err(error) => return Err(error),
        }
    }
    match unpacked {
        true => Ok(()),
        false => unpack(folder, group, &tree),
    }
}

/// Puts `package`, with all that it needs and this host lacks, into one tree at `tree`, without installing anything.
///
/// # Errors
/// No network, no such package, or one that is not what its index says; the cache stays as it was.
pub(crate) fn unpack_for_host(workspace: &Workspace, package: &str, tree: &Path) -> Result<()> {
    let folder = Folder::of(workspace);
    let lock = match fetch_for_host(&folder, package, Lists::Hosts) {
        Ok(lock) => lock,
        // Lists that are old or empty are the common reason; if it is another one, the second attempt tells of it.
        Err(_) => fetch_for_host(&folder, package, Lists::Fresh)?,
    };
    let entries: Vec<&Entry> = lock.entries.iter().collect();
    unpack(&folder, &entries, tree)
}

fn fetch_for_host(folder: &Folder, package: &str, lists: Lists) -> Result<Lock> {
    let root = host::root(&folder.0, lists)?;
    let lock = host::closure(&root, package)?;
    for entry in &lock.entries {
        fetch(folder, entry, |path| root.download(entry, path))?;
    }
    Ok(lock)
}

/// Whether a tree that was unpacked here still holds what it held at first.
pub(crate) fn is_whole(tree: &Path) -> bool {
    listing::matches(tree)
}

/// `target/packages`.
struct Folder(PathBuf);

impl Folder {
    fn of(workspace: &Workspace) -> Self {
        Self(workspace.target().join("packages"))
    }

    fn lock(&self, board: Board) -> PathBuf {
        self.0.join(format!("{}.lock", board.word()))
    }

    fn deb(&self, entry: &Entry) -> PathBuf {
        self.0.join("debs").join(&entry.file)
    }

    fn unpacked(&self, group: &[&Entry]) -> PathBuf {
        self.0.join("trees").join(lock::tree_name(group))
    }
}

/// Whether the package file was last written before its tree was unpacked.
fn is_older(deb: &Path, tree: &Path) -> bool {
    let written = fs::metadata(deb).and_then(|metadata| metadata.modified());
    matches!((written, listing::noted(tree)), (Ok(deb), Some(tree)) if deb < tree)
}

fn fetch(folder: &Folder, entry: &Entry, download: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = folder.deb(entry);
    if entry.is_whole(&path) {
        return Ok(());
    }
    if path.exists() {
        say!("{} is damaged: fetching it again", path.display());
        // apt would ask whether it has changed since, and take a "no" for an answer.
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    fs::create_dir_all(folder.0.join("debs")).context("make the folder for packages")?;
    download(&path).with_context(|| {
        format!(
            "fetch {}; `cargo xtask setup` tries again, and `cargo xtask setup --update` takes newer packages, if the \
             archives have this one no longer",
            entry.file
        )
    })
}

/// Unpacks `entries` over each other beside the final place, so that a tree under its own name was a whole one.
fn unpack(folder: &Folder, entries: &[&Entry], tree: &Path) -> Result<()> {
    let half = tree.with_extension("half");
    for old in [&half, tree] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&half).with_context(|| format!("make {}", half.display()))?;
    for entry in entries {
        process::capture(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(folder.deb(entry))
                .arg(&half),
        )?;
    }
    listing::store(&half, tree)?;
    move_into_place(&half, tree)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a folder, which `atomic` does not handle, in a cache"
)]
fn move_into_place(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {} into place", to.display()))
}
