//! A private apt root: the host's settings for fetching, and every path bent to a folder of ours.
//!
//! apt verifies signatures there, and nothing on the host changes; which packages are asked for stands elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gokrazy_core::atomic::{self, Durability};

use super::lock::{Entry, Lock};
use crate::process;
use crate::progress::Progress;

/// apt's own downloader: its proxies, its credentials, its check of the hash.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Pause between two looks at a download.
const FRAME: Duration = Duration::from_millis(100);

/// Settings of the host that hold in every private root, as `apt-config shell` names them.
const HOST_PATHS: [(&str, &str); 4] = [
    ("Dir::Etc::trusted", "f"),
    ("Dir::Etc::trustedparts", "d"),
    ("Dir::Etc::netrc", "f"),
    ("Dir::Etc::netrcparts", "d"),
];

/// A folder of ours that apt takes for its own.
pub(super) struct Root(PathBuf);

impl Root {
    /// Makes the root at `folder`, for packages of `architectures` in Debian's words, the first one before others;
    /// `settings` outrank its own.
    ///
    /// # Errors
    /// A file that cannot be written, or no apt on this host.
    pub(super) fn make(folder: PathBuf, architectures: &[&str], settings: &str) -> Result<Self> {
        let root = Self(folder);
        for part in [
            "etc/sources.list.d",
            "etc/preferences.d",
            "etc/apt.conf.d",
            "lists/partial",
            "cache/archives/partial",
        ] {
            let path = root.0.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        root.put("status", "")?;
        let own = root.settings(architectures)?;
        root.put("etc/apt.conf", &format!("{own}{settings}"))?;
        Ok(root)
    }

    /// Writes a file of the root, unless it is there already.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        Ok(atomic::replace(
            &path,
            text.as_bytes(),
            0o644,
            Durability::Volatile,
        )?)
    }

    /// The host's settings for fetching (proxies and the like), and every path bent to the private root.
    fn settings(&self, architectures: &[&str]) -> Result<String> {
        let dump = process::capture(Command::new("apt-config").arg("dump"))?;
        let mut text: String = String::from_utf8_lossy(&dump.stdout)
            .lines()
            .filter(|line| {
                line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets")
            })
            .map(|line| format!("{line}\n"))
            .collect();
        for (name, kind) in HOST_PATHS {
            text.push_str(&format!("{name} \"{}\";\n", host_path(name, kind)?));
        }
        let root = self.0.display();
        let first = architectures.first().unwrap_or(&"");
        let all: String = architectures
            .iter()
            .map(|word| format!("\"{word}\"; "))
            .collect();
        text.push_str(&format!(
            "Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\nDir::State \"{root}\";\n\
             Dir::Cache \"{root}/cache\";\nDir::Etc \"{root}/etc\";\nDir::Etc::parts \"apt.conf.d\";\n\
             Dir::Etc::sourcelist \"none\";\nDir::Log \"{root}\";\n\
             APT::Architecture \"{first}\";\nAPT::Architectures {{ {all}}};\n\
             Acquire::Languages \"none\";\nAcquire::GzipIndexes \"true\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             APT::Sandbox::User \"\";\n"
        ));
        Ok(text)
    }

    /// A program of apt that works in this root.
    pub(super) fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.0.join("etc/apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(&self.0);
        command
    }

    /// Where the named `packages` can be had, with sizes and hashes, in that order.
    ///
    /// # Errors
    /// An archive lacks one of them.
    pub(super) fn locate(&self, packages: &[&str]) -> Result<Lock> {
        let said = process::capture(
            self.tool("apt-get")
                .args(["download", "--print-uris"])
                .args(packages),
        )?;
        let lock = Lock::from_uris(&String::from_utf8_lossy(&said.stdout))?;
        if lock.entries.len() != packages.len() {
            bail!(
                "the archives have only {} of {}",
                lock.render(),
                packages.join(", ")
            );
        }
        Ok(lock)
    }

    /// Fetches one package to `path`.
    ///
    /// # Errors
    /// It cannot be reached, or its hash is wrong.
    pub(super) fn download(&self, entry: &Entry, path: &Path) -> Result<()> {
        let mut command = self.tool(HELPER);
        command
            .args(["-o", "APT::Sandbox::User=", "download-file", &entry.uri])
            .arg(path)
            .arg(format!("SHA256:{}", entry.sha256));
        if let Err(error) = watched(&mut command, entry, path) {
            bail!("{}", reason(&error));
        }
        own(path)?;
        if !entry.is_whole(path) {
            bail!("{} is not what the archive's index says", path.display());
        }
        Ok(())
    }
}

/// Of apt's many lines the one that says why, if there is one.
pub(super) fn reason(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    let why = said
        .lines()
        .find_map(|line| line.strip_prefix("E: Failed to fetch "));
    why.unwrap_or(&said).to_owned()
}

/// Makes a file of a link: apt does not copy what lies in an archive on this machine, and that may go away.
fn own(path: &Path) -> Result<()> {
    if !path.is_symlink() {
        return Ok(());
    }
    let target = path
        .canonicalize()
        .with_context(|| format!("follow {}", path.display()))?;
    fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    fs::copy(&target, path)
        .map(drop)
        .with_context(|| format!("copy {} to {}", target.display(), path.display()))
}

/// Runs a download, and shows how much of the file is there.
fn watched(command: &mut Command, entry: &Entry, path: &Path) -> Result<()> {
    let progress = Progress::start();
    let name = entry.file.split('_').next().unwrap_or(&entry.file);
    progress.step(&format!("fetch {name}"), || {
        thread::scope(|scope| {
            let worker = scope.spawn(|| process::capture(command));
            while !worker.is_finished() {
                let there = path.metadata().map_or(0, |metadata| metadata.len());
                progress.bar(&format!("fetch {name}"), there, entry.size);
                thread::sleep(FRAME);
            }
            match worker.join() {
                Ok(done) => done.map(|_| ((), entry.size)),
                Err(_) => bail!("the download's thread ended early"),
            }
        })
    })
}

/// A path in the host's configuration, as `apt-config shell` names it; `kind` is `f` for a file, `d` for a folder.
///
/// # Errors
/// There is no apt on this host.
pub(super) fn host_path(name: &str, kind: &str) -> Result<String> {
    let said = process::capture(Command::new("apt-config").args([
        "shell",
        "V",
        &format!("{name}/{kind}"),
    ]))?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(text
        .trim()
        .trim_start_matches("V=")
        .trim_matches('\'')
        .to_owned())
}
