//! The private apt root: made from the host's settings, asked for packages and their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gokrazy_core::atomic::{self, Durability};

use super::lock::{Entry, Lock};
use super::sources::{self, Source};
use crate::image::Board;
use crate::process;
use crate::progress::Progress;
use crate::setup::DEBIAN_KEYS;

/// apt's own downloader: its proxies, its credentials, its check of the hash.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Pause between two looks at a download.
const FRAME: Duration = Duration::from_millis(100);

/// Where an archive is looked for on hosts that are not Debian.
const MIRROR_VARIABLE: &str = "GOKRAZY_DEBIAN_MIRROR";

/// Release that is used with [`MIRROR_VARIABLE`].
const MIRROR_RELEASE: &str = "bookworm";

/// Settings of the host that hold in the private root too, as `apt-config shell` names them.
const HOST_PATHS: [(&str, &str); 4] = [
    ("Dir::Etc::trusted", "f"),
    ("Dir::Etc::trustedparts", "d"),
    ("Dir::Etc::netrc", "f"),
    ("Dir::Etc::netrcparts", "d"),
];

/// Chooses the packages of `board` by what the archives have now.
///
/// # Errors
/// No archive of Debian is known or reachable, or it lacks a package.
pub(crate) fn resolve(folder: &Path, board: Board) -> Result<Lock> {
    let root = Root::make(folder, board)?;
    // One unreachable archive need not matter; if it does, the package that is missed tells so below.
    let updated = process::capture(root.tool("apt-get").args(["-q", "update"]));
    let resolved = root.choose(board);
    match (resolved, updated) {
        (Ok(lock), _) => Ok(lock),
        (Err(error), Ok(_)) => Err(error),
        (Err(_), Err(error)) => Err(error).context("reach Debian's archives"),
    }
}

/// Fetches one package to `path`.
///
/// # Errors
/// It cannot be reached, or its hash is wrong.
pub(crate) fn download(folder: &Path, board: Board, entry: &Entry, path: &Path) -> Result<()> {
    let root = Root::make(folder, board)?;
    let mut command = root.tool(HELPER);
    command
        .args(["-o", "APT::Sandbox::User=", "download-file", &entry.uri])
        .arg(path)
        .arg(format!("SHA256:{}", entry.sha256));
    if let Err(error) = watched(&mut command, entry, path) {
        let said = format!("{error:#}");
        // Of apt's many lines this is the one that says why.
        let why = said
            .lines()
            .find_map(|line| line.strip_prefix("E: Failed to fetch "));
        bail!("{}", why.unwrap_or(&said));
    }
    if !entry.is_whole(path) {
        bail!("{} is not what the archive's index says", path.display());
    }
    Ok(())
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

struct Root(PathBuf);

impl Root {
    fn make(folder: &Path, board: Board) -> Result<Self> {
        let architecture = board.architecture().debian();
        let root = Self(folder.join(format!("apt-{architecture}")));
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
        root.put("etc/apt.conf", &root.settings(architecture)?)?;
        root.put("etc/sources.list.d/debian.sources", &host_sources()?)?;
        // Kernels of the backports are as good as others here: the newest one knows the most boards.
        root.put(
            "etc/preferences",
            "Package: linux-image-*\nPin: release n=*-backports\nPin-Priority: 500\n",
        )?;
        Ok(root)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
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
    fn settings(&self, architecture: &str) -> Result<String> {
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
        text.push_str(&format!(
            "Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\nDir::State \"{root}\";\n\
             Dir::Cache \"{root}/cache\";\nDir::Etc \"{root}/etc\";\nDir::Etc::parts \"apt.conf.d\";\n\
             Dir::Etc::sourcelist \"none\";\nDir::Log \"{root}\";\n\
             APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
             Acquire::Languages \"none\";\nAcquire::GzipIndexes \"true\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             APT::Sandbox::User \"\";\n"
        ));
        Ok(text)
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.0.join("etc/apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(&self.0);
        command
    }

    fn choose(&self, board: Board) -> Result<Lock> {
        let kernel = self.kernel(board)?;
        let mut names = vec![kernel.as_str()];
        names.extend(board.packages());
        let said = process::capture(
            self.tool("apt-get")
                .args(["download", "--print-uris"])
                .args(&names),
        )?;
        let lock = Lock::from_uris(&String::from_utf8_lossy(&said.stdout))?;
        if lock.entries.len() != names.len() {
            bail!(
                "the archives have only {} of {}",
                lock.render(),
                names.join(", ")
            );
        }
        Ok(lock)
    }

    /// The package that the newest kernel's own name hides behind `linux-image-<arch>`.
    fn kernel(&self, board: Board) -> Result<String> {
        let name = format!("linux-image-{}", board.architecture().debian());
        let said =
            process::capture(
                self.tool("apt-cache")
                    .args(["depends", "--important", &name]),
            )?;
        String::from_utf8_lossy(&said.stdout)
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|package| package.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("find the kernel that package {name} stands for"))
    }
}

/// A path in the host's configuration.
fn host_path(name: &str, kind: &str) -> Result<String> {
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

fn host_sources() -> Result<String> {
    if let Some(mirror) = std::env::var_os(MIRROR_VARIABLE) {
        let line = format!(
            "deb [signed-by={DEBIAN_KEYS}] {} {MIRROR_RELEASE} main\n",
            mirror.to_string_lossy()
        );
        return sources::derive(&sources::parse_list(&line), MIRROR_RELEASE)
            .with_context(|| format!("{MIRROR_VARIABLE} is not an address"));
    }
    let mut found: Vec<Source> = Vec::new();
    for path in source_files()? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let deb822 = path
            .extension()
            .is_some_and(|extension| extension == "sources");
        found.extend(if deb822 {
            sources::parse_deb822(&text)
        } else {
            sources::parse_list(&text)
        });
    }
    let codename = codename()?;
    sources::derive(&found, &codename).with_context(|| {
        format!("this machine's apt knows no archive of Debian {codename}; name one: {MIRROR_VARIABLE}=http://…/debian")
    })
}

fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from(host_path("Dir::Etc::sourcelist", "f")?)];
    let parts = host_path("Dir::Etc::sourceparts", "d")?;
    for entry in fs::read_dir(&parts).with_context(|| format!("list {parts}"))? {
        files.push(entry.with_context(|| format!("list {parts}"))?.path());
    }
    files.retain(|path| {
        let named = path
            .extension()
            .is_some_and(|extension| extension == "list" || extension == "sources");
        named && path.is_file()
    });
    files.sort();
    Ok(files)
}

fn codename() -> Result<String> {
    let path = gokrazy_core::paths::OS_RELEASE;
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|word| word.trim_matches('"').to_owned())
        .with_context(|| format!("find VERSION_CODENAME in {path}"))
}
