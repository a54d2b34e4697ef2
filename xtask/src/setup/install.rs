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
    // A machine without lists, as a container is one, knows no package at all.
    let is_stale = !missing.iter().all(|need| is_in_archives(need.package));
    if is_stale {
        update()?;
    }
    let (there, lacking): (Vec<&Need>, Vec<&Need>) = missing
        .iter()
        .partition(|need| is_in_archives(need.package));
    // Where there still is nothing, no archive was reached, and apt says why.
    let wanted = if there.is_empty() { missing } else { &there };
    let mut installed = guarded(&mut apt_install(wanted));
    // The lists of a machine that was not used for long name versions that are gone.
    if installed.is_err() && !is_stale {
        update()?;
        installed = guarded(&mut apt_install(wanted));
    }
    installed
        .with_context(|| format!("install packages; by hand it is: {}", command_line(wanted)))?;
    if !lacking.is_empty() {
        bail!("{}", not_to_be_had(&lacking));
    }
    Ok(())
}

fn update() -> Result<()> {
    say!("reading the archives' lists of packages anew");
    process::show(Command::new("apt-get").args(["-qq", "update"]))
}

/// Not every distribution has all packages (Ubuntu's Chromium is none of apt's), and one that is not there would keep
/// apt from installing the others.
fn is_in_archives(package: &str) -> bool {
    let mut command = Command::new("apt-cache");
    command.args(["policy", package]).env("LC_ALL", "C");
    process::capture(&mut command)
        .is_ok_and(|said| has_candidate(&String::from_utf8_lossy(&said.stdout)))
}

/// Whether `apt-cache policy` (apt-cache(8)) names a version that could be installed; pure.
fn has_candidate(said: &str) -> bool {
    let candidate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

fn not_to_be_had(lacking: &[&Need]) -> String {
    let each = lacking
        .iter()
        .map(|need| format!("{} (for {})", need.package, need.why));
    format!(
        "the package archives of this machine do not have {}: get what is missing in another way, and try again",
        each.collect::<Vec<_>>().join(", ")
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_is_not_in_the_archives() {
        let said = |candidate: &str| {
            format!("x:\n  Installed: (none)\n  Candidate: {candidate}\n  Version table:\n")
        };
        assert!(has_candidate(&said("1:2.3-4")));
        assert!(!has_candidate(&said("(none)")));
        // Nobody knows the name.
        assert!(!has_candidate(""));
    }
}
