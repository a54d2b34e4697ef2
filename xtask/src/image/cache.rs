//! What was made once from the same inputs and need not be made again: files and folders named by their inputs' hash.
//!
//! A thing under its own name is whole: it is made under another one and moved.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::Board;
use crate::digest;
use crate::process;
use crate::workspace::Workspace;

/// How much older than the newest a thing may be. No clock is asked, so a long pause between builds costs nothing.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of things that can be made again.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in `folder`, which is made if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)
            // A root in here holds the hash of the page's password.
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o700)))
            .with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The cache of a board's images.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub(crate) fn of(workspace: &Workspace, board: Board) -> Result<Self> {
        Self::open(workspace.target().join("image/cache").join(board.word()))
    }

    /// Where all of it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// The folder `key`; `make` fills it if it is not there.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn folder(
        &self,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.thing(key, |half| {
            fs::create_dir(half).with_context(|| format!("make {}", half.display()))?;
            make(half)
        })
    }

    /// The file `key`; `make` writes it if it is not there.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn thing(
        &self,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.folder.join(key);
        if path.exists() {
            return Ok(path);
        }
        // Two builds at a time must not share the half-made thing.
        let half = self.folder.join(format!(".{key}.{}", std::process::id()));
        remove(&half)?;
        let made = make(&half).and_then(|()| move_into_place(&half, &path));
        if made.is_err() {
            let _ = remove(&half);
        }
        made.map(|()| path)
    }

    /// What `program` makes of `input`: from its standard input to its standard output.
    ///
    /// # Errors
    /// The program's own.
    pub(crate) fn filtered(
        &self,
        input: &[u8],
        program: &str,
        arguments: &[&str],
    ) -> Result<PathBuf> {
        let key = format!(
            "{program}-{}",
            digest::of_bytes(&[arguments.join(" ").as_bytes(), input].concat())
        );
        self.thing(&key, |half| {
            let source = half.with_extension("in");
            write(&source, input)?;
            let result = filter(&source, half, Command::new(program).args(arguments));
            let _ = fs::remove_file(&source);
            result
        })
    }

    /// Removes what is a day older than the newest thing.
    pub(crate) fn sweep(&self) {
        // A cache that cannot be swept is only larger; so errors are passed over.
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let aged: Vec<(PathBuf, SystemTime)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))
            .collect();
        let Some(newest) = aged.iter().map(|(_, time)| *time).max() else {
            return;
        };
        for (path, time) in aged {
            if newest.duration_since(time).is_ok_and(|age| age > KEPT) {
                let _ = remove(&path);
            }
        }
    }
}

fn filter(source: &Path, target: &Path, command: &mut Command) -> Result<()> {
    let input = fs::File::open(source).with_context(|| format!("open {}", source.display()))?;
    let output = create(target)?;
    let status = command
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("start {}", process::line_of(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", process::line_of(command));
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    create(path)?
        .write_all(bytes)
        .with_context(|| format!("write {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("create {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "folders too, which `atomic` does not handle; a cache needs no sync"
)]
fn move_into_place(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        // Another build was faster, and made the same.
        Err(_) if to.exists() => remove(from),
        moved => moved.with_context(|| format!("move {} into place", to.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str) -> Cache {
        let folder =
            std::env::temp_dir().join(format!("xtask-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Cache::open(folder).unwrap()
    }

    #[test]
    fn a_thing_is_made_once() {
        let cache = cache("once");
        let first = cache.thing("x", |half| write(half, b"1")).unwrap();
        let second = cache.thing("x", |half| write(half, b"2")).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read(first).unwrap(), b"1");
        fs::remove_dir_all(cache.folder).unwrap();
    }

    #[test]
    fn a_failure_leaves_nothing_that_passes_for_the_thing() {
        let cache = cache("failure");
        let failed = cache.folder("x", |half| {
            write(&half.join("part"), b"1")?;
            bail!("no more")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0);
        fs::remove_dir_all(cache.folder).unwrap();
    }

    #[test]
    fn filters_depend_on_their_arguments() {
        let cache = cache("filter");
        let plain = cache.filtered(b"abc", "cat", &[]).unwrap();
        assert_eq!(fs::read(&plain).unwrap(), b"abc");
        let counted = cache.filtered(b"abc", "wc", &["-c"]).unwrap();
        assert_eq!(fs::read(counted).unwrap().trim_ascii(), b"3");
        assert!(cache.filtered(b"abc", "false", &[]).is_err());
        fs::remove_dir_all(cache.folder).unwrap();
    }
}
