//! `cargo xtask setup`: checks this machine for what the other verbs need, and gets what is missing.
//!
//! Installed packages apart, nothing outside the target folder changes; and what is not installed but unpacked lies
//! there too.
//! Everything is looked for anew each time, by files whose presence is cheap to see, so there is no stamp that could
//! be wrong; a run that finds all in place takes a few milliseconds a purpose.

mod install;
mod needs;
mod path;
mod policy;
mod unpack;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use gokrazy_core::atomic::{self, Durability};

pub(crate) use needs::{DEBIAN_KEYS, Purpose, program};
pub(crate) use path::complete as complete_path;
pub(crate) use unpack::tree;

use self::needs::{Need, Way};
use crate::image::Board;
use crate::out::say;
use crate::packages;
use crate::process;
use crate::toolchain::{Architecture, PYTHON_PACKAGES, Toolchain, python_environment};
use crate::workspace::Workspace;

/// Seconds that rustup may take to get a target before the other way is gone.
const RUSTUP_PATIENCE: &str = "300";

/// What `setup` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tell what is missing and how to get it, and install nothing.
    #[arg(long, conflicts_with_all = ["toolchain", "update"])]
    check: bool,
    /// Compile for devices in this way from now on; without it rustup's way where it works.
    #[arg(long, value_enum)]
    toolchain: Option<Toolchain>,
    /// Look for newer kernel and firmware packages.
    #[arg(long)]
    update: bool,
}

/// Makes sure that everything is there, for all purposes.
///
/// # Errors
/// What is missing, and the command that supplies it.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let missing = needs::missing(workspace, &Purpose::ALL);
    if arguments.check {
        return tell(workspace, &missing);
    }
    policy::sweep_leftover();
    install::packages(workspace, &missing)?;
    if let Some(toolchain) = arguments.toolchain {
        remember(workspace, toolchain)?;
    }
    for architecture in [Architecture::Arm64, Architecture::Amd64] {
        let toolchain = ensure_toolchain(workspace, architecture)?;
        say!(
            "{}: compiled by way of {}",
            architecture.triple(),
            toolchain.word()
        );
    }
    for board in Board::ALL {
        let fetched = packages::ensure(workspace, board, arguments.update)?;
        for package in fetched.names() {
            say!("{}: {package}", board.word());
        }
    }
    say!("ready: `cargo xtask image` makes an image, `cargo xtask run` boots it");
    Ok(())
}

/// Makes sure that the packages are there that `purpose` needs.
///
/// # Errors
/// What is missing, and the command that supplies it.
pub(crate) fn ensure(workspace: &Workspace, purpose: Purpose) -> Result<()> {
    install::packages(workspace, &needs::missing(workspace, &[purpose]))
}

/// The way to compile for `architecture`, made ready if need be.
///
/// # Errors
/// Why neither way can be made ready, and what would help.
pub(crate) fn ensure_toolchain(
    workspace: &Workspace,
    architecture: Architecture,
) -> Result<Toolchain> {
    let chosen = remembered(workspace);
    if chosen != Some(Toolchain::FromSource) {
        if Toolchain::Rustup.is_ready(workspace, architecture)
            || add_target(workspace, architecture)
        {
            return Ok(Toolchain::Rustup);
        }
        if chosen == Some(Toolchain::Rustup) {
            bail!(
                "`rustup target add {}` did not work; `cargo xtask setup --toolchain from-source` goes another way",
                architecture.triple()
            );
        }
    }
    prepare_from_source(workspace, architecture)?;
    // Without this, each build would wait anew for a server that did not answer.
    remember(workspace, Toolchain::FromSource)?;
    Ok(Toolchain::FromSource)
}

fn tell(workspace: &Workspace, missing: &[&Need]) -> Result<()> {
    let mut complete = true;
    for architecture in [Architecture::Arm64, Architecture::Amd64] {
        let ready = [Toolchain::Rustup, Toolchain::FromSource]
            .into_iter()
            .find(|toolchain| toolchain.is_ready(workspace, architecture));
        let state = ready.map_or("missing".to_owned(), |toolchain| {
            format!("by way of {}", toolchain.word())
        });
        say!("{}: {state}", architecture.triple());
        complete &= ready.is_some();
    }
    for board in Board::ALL {
        let cached = packages::is_cached(workspace, board);
        let state = if cached { "cached" } else { "missing" };
        say!("kernel and firmware packages for {}: {state}", board.word());
        complete &= cached;
    }
    for need in missing {
        say!("{}: missing, needed for {}", need.package, need.why);
    }
    let install: Vec<&Need> = missing
        .iter()
        .copied()
        .filter(|need| need.way == Way::Install)
        .collect();
    if !install.is_empty() {
        bail!(
            "{}; then cargo xtask setup gets the rest",
            install::advice(&install)
        );
    }
    if !(complete && missing.is_empty()) {
        bail!("something is missing; `cargo xtask setup` gets it");
    }
    Ok(())
}

/// Whether rustup could add the target; it says itself why not.
fn add_target(workspace: &Workspace, architecture: Architecture) -> bool {
    let mut command = Command::new("timeout");
    command
        .args([
            RUSTUP_PATIENCE,
            "rustup",
            "target",
            "add",
            architecture.triple(),
        ])
        .current_dir(workspace.root());
    match process::show(&mut command) {
        Ok(()) => Toolchain::Rustup.is_ready(workspace, architecture),
        Err(error) => {
            eprintln!("xtask: {error:#}; going the other way, with Debian's compiler");
            false
        }
    }
}

fn prepare_from_source(workspace: &Workspace, architecture: Architecture) -> Result<()> {
    if Toolchain::FromSource.is_ready(workspace, architecture) {
        return Ok(());
    }
    ensure(workspace, Purpose::FromSource)?;
    let environment = python_environment(workspace);
    if !environment.join("bin/cargo-zigbuild").exists() {
        say!("getting the linker: {}", PYTHON_PACKAGES.join(", "));
        process::capture(
            Command::new("/usr/bin/python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        process::capture(
            Command::new(environment.join("bin/pip"))
                .args(["install", "--no-cache-dir", "--disable-pip-version-check"])
                .args(PYTHON_PACKAGES),
        )
        .context("get the linker for programs of devices from Python's package index")?;
    }
    if !Toolchain::FromSource.is_ready(workspace, architecture) {
        bail!("Debian's compiler is not complete: packages rustc-web, cargo-web, rust-web-src");
    }
    Ok(())
}

fn remembered(workspace: &Workspace) -> Option<Toolchain> {
    let word = std::fs::read_to_string(stamp(workspace)).ok()?;
    [Toolchain::Rustup, Toolchain::FromSource]
        .into_iter()
        .find(|toolchain| toolchain.word() == word.trim())
}

fn remember(workspace: &Workspace, toolchain: Toolchain) -> Result<()> {
    let path = stamp(workspace);
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
        .with_context(|| format!("make the folder of {}", path.display()))?;
    atomic::replace(
        &path,
        format!("{}\n", toolchain.word()).as_bytes(),
        0o644,
        Durability::Volatile,
    )?;
    Ok(())
}

fn stamp(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target().join("setup/toolchain")
}
