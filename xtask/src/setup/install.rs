//! Installs Debian packages where that is allowed, and otherwise says how; some are unpacked only (see [`super::unpack`]).
//!
//! No daemon that comes with a package is started, and no package is removed for another's sake.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::needs::{Need, Way, program};
use super::unpack;
use crate::process;
use crate::workspace::Workspace;

/// Asked by Debian's maintainer scripts before they start a daemon; 101 means "do not".
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# put here by cargo xtask setup, gone when it ends\nexit 101\n";

/// Installs or unpacks what is `missing`.
///
/// # Errors
/// The command that the user has to run, where we may not; or what apt said.
pub(crate) fn packages(workspace: &Workspace, missing: &[&Need]) -> Result<()> {
    for need in missing {
        println!("missing: {}, for {}", need.package, need.why);
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
    let _no_daemons = Policy::forbid()?;
    // The lists of a machine that was not used for long name versions that are gone; one without any, nothing.
    if process::show(&mut apt_install(missing)).is_err() {
        process::show(Command::new("apt-get").args(["-qq", "update"]))?;
        process::show(&mut apt_install(missing)).with_context(|| {
            format!("install packages; by hand it is: {}", command_line(missing))
        })?;
    }
    Ok(())
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

/// The file that keeps daemons from being started, as long as this lives.
#[derive(Debug)]
struct Policy {
    ours: bool,
}

impl Policy {
    fn forbid() -> Result<Self> {
        // One that an interrupted run of ours left behind is taken over; anybody else's stays.
        if fs::read_to_string(POLICY).is_ok_and(|text| text == POLICY_TEXT) {
            return Ok(Self { ours: true });
        }
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match created {
            Ok(mut file) => {
                let policy = Self { ours: true };
                file.write_all(POLICY_TEXT.as_bytes())
                    .with_context(|| format!("write {POLICY}"))?;
                Ok(policy)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).with_context(|| format!("create {POLICY}")),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(Path::new(POLICY)).is_err() {
            eprintln!(
                "xtask: {POLICY} could not be removed; as long as it is there, packages start no daemons"
            );
        }
    }
}
