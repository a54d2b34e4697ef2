//! Which kernel and firmware packages a board needs, asked of Debian's archives in a private apt root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::{Root, host_path, reason};
use super::lock::{Lock, is_kernel_part};
use super::sources::{self, Source};
use crate::image::Board;
use crate::process;
use crate::setup::DEBIAN_KEYS;

/// Where an archive is looked for on hosts that are not Debian.
const MIRROR_VARIABLE: &str = "GOKRAZY_DEBIAN_MIRROR";

/// Release that is used with [`MIRROR_VARIABLE`].
const MIRROR_RELEASE: &str = "bookworm";

/// Chooses the packages of `board` by what the archives have now.
///
/// # Errors
/// No archive of Debian is known or reachable, or it lacks a package.
pub(super) fn resolve(folder: &Path, board: Board) -> Result<Lock> {
    let root = root(folder, board)?;
    // One unreachable archive need not matter; if it does, the package that is missed tells so below.
    let updated = process::capture(root.tool("apt-get").args(["-q", "update"]));
    let resolved = choose(&root, board);
    match (resolved, updated) {
        (Ok(lock), Ok(_)) => Ok(lock),
        (Ok(lock), Err(error)) => {
            eprintln!(
                "xtask: not all archives could be reached ({}); going on with what is known of them",
                reason(&error)
            );
            Ok(lock)
        }
        (Err(error), Ok(_)) => Err(error),
        (Err(_), Err(error)) => Err(error).context("reach Debian's archives"),
    }
}

/// The private root for `board`, with the host's own sources, widened.
///
/// # Errors
/// The host knows no archive of Debian, or a file cannot be written.
pub(super) fn root(folder: &Path, board: Board) -> Result<Root> {
    let architecture = board.architecture().debian();
    let root = Root::make(
        folder.join(format!("apt-{architecture}")),
        &[architecture],
        "",
    )?;
    root.put("etc/sources.list.d/debian.sources", &host_sources()?)?;
    // Kernels of the backports are as good as others here: the newest one knows the most boards.
    root.put(
        "etc/preferences",
        "Package: linux-image-*\nPin: release n=*-backports\nPin-Priority: 500\n",
    )?;
    Ok(root)
}

fn choose(root: &Root, board: Board) -> Result<Lock> {
    let kernel = kernel(root, board)?;
    // Up to Debian 13's own, a kernel is one package; its parts are to be of its very version, and so are its own.
    let parts = dependencies(root, &kernel)?;
    let parts = parts.iter().filter(|name| is_kernel_part(name));
    let mut names = vec![kernel.as_str()];
    names.extend(parts.map(String::as_str));
    names.extend(board.packages());
    root.locate(&names)
}

/// What package `name` depends on.
fn dependencies(root: &Root, name: &str) -> Result<Vec<String>> {
    let said = process::capture(
        root.tool("apt-cache")
            .args(["depends", "--important", name]),
    )?;
    Ok(String::from_utf8_lossy(&said.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect())
}

/// The package that the newest kernel's own name hides behind `linux-image-<arch>`.
fn kernel(root: &Root, board: Board) -> Result<String> {
    let name = format!("linux-image-{}", board.architecture().debian());
    dependencies(root, &name)?
        .into_iter()
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("find the kernel that package {name} stands for"))
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
