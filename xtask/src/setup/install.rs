//! Installs Debian packages where that is allowed, and otherwise says how; some are unpacked only (see [`super::unpack`]).
//!
//! No daemon that comes with a package is started, and no package is removed for another's sake.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::needs::{Need, Way, program};
use super::policy::NoDaemons;
use super::unpack;
use crate::out::say;
use crate::process;
use crate::workspace::Workspace;

/// Installs or unpacks what is `missing`.
///
/// # Errors
/// The command that the user has to run, where we may not; or what apt said.
pub(crate) fn packages(workspace: &Workspace, missing: &[&Need]) -> Result<()> {
    for need in missing {
        say!("missing: {}, for {}", need.package, need.why);
    }
    if !missing.is_empty() && program("apt-get").is_none() {
        bail!("install what is missing (the names are Debian's), then try again");
    }
    let (unpack, install): (Vec<&Need>, Vec<&Need>) =
        missing.iter().partition(|need| need.way == Way::Unpack);
    // First what needs no root: then the command that a user has to run is the last step.
    for need in unpack {
        unpack::supply(workspace, need)?;
    }
    if install.is_empty() {
        return Ok(());
    }
    by_apt(&install)
}

fn by_apt(missing: &[&Need]) -> Result<()> {
    if !is_root() {
        bail!(
            "packages are missing; this gets them: {}",
            command_line(missing)
        );
    }
    // The lists of a machine that was not used for long name versions that are gone; one without any, nothing.
    if guarded(&mut apt_install(missing)).is_err() {
        process::show(Command::new("apt-get").args(["-qq", "update"]))?;
        guarded(&mut apt_install(missing)).with_context(|| {
            format!("install packages; by hand it is: {}", command_line(missing))
        })?;
    }
    Ok(())
}

/// Ctrl-C ends the installation, and then us, before the next step.
fn guarded(installation: &mut Command) -> Result<()> {
    let _no_daemons = NoDaemons::begin()?;
    process::show(installation)
}

/// What the user would type.
pub(crate) fn command_line(missing: &[&Need]) -> String {
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    format!(
        "sudo apt-get update && sudo apt-get install --no-install-recommends {}",
        names.join(" ")
    )
}

fn apt_install(missing: &[&Need]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .args(["install", "-y", "--no-install-recommends", "--no-remove"])
        .args(missing.iter().map(|need| need.package))
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
