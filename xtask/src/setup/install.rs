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
        bail!("{}", advice(missing));
    }
    // A machine without lists, as a container is one, knows no package at all.
    let is_stale = !missing.iter().all(|need| is_in_archives(need));
    if is_stale {
        update()?;
    }
    let plan = plan_by_lists(missing);
    if !plan.wanted.is_empty() {
        install(&plan.wanted, is_stale)?;
    }
    if !plan.lacking.is_empty() {
        bail!("{}", not_to_be_had(&plan.lacking));
    }
    Ok(())
}

fn install(wanted: &[&Need], has_updated: bool) -> Result<()> {
    let mut installed = guarded(&mut apt_install(wanted));
    // The lists of a machine that was not used for long name versions that are gone.
    if installed.is_err() && !has_updated {
        update()?;
        installed = guarded(&mut apt_install(wanted));
    }
    installed.with_context(|| format!("install packages; by hand it is: {}", command_line(wanted)))
}

/// What apt is asked for, and what it need not be asked for.
#[derive(Debug)]
struct Plan<'a> {
    wanted: Vec<&'a Need>,
    lacking: Vec<&'a Need>,
}

/// Parts what the archives have from what they lack; pure.
fn plan<'a>(missing: &[&'a Need], is_there: impl Fn(&Need) -> bool, lists: Lists) -> Plan<'a> {
    let (wanted, lacking): (Vec<_>, Vec<_>) = missing.iter().partition(|need| is_there(need));
    if wanted.is_empty() && lists == Lists::None {
        // No archive was reached: apt says why.
        return Plan {
            wanted: lacking,
            lacking: wanted,
        };
    }
    Plan { wanted, lacking }
}

fn plan_by_lists<'a>(missing: &[&'a Need]) -> Plan<'a> {
    plan(missing, is_in_archives, Lists::of_this_machine())
}

/// What somebody who may not install packages is told: the command, and what it would not get.
pub(super) fn advice(missing: &[&Need]) -> String {
    advice_on(&plan_by_lists(missing))
}

fn advice_on(plan: &Plan) -> String {
    let mut parts = Vec::new();
    if !plan.wanted.is_empty() {
        let command = command_line(&plan.wanted);
        parts.push(format!("packages are missing; this gets them: {command}"));
    }
    if !plan.lacking.is_empty() {
        parts.push(not_to_be_had(&plan.lacking));
    }
    parts.join("; ")
}

fn update() -> Result<()> {
    say!("reading the archives' lists of packages anew");
    process::show(Command::new("apt-get").args(["-qq", "update"]))
}

/// Not every distribution has all packages (Ubuntu's Chromium is none of apt's), and one that is not there would keep
/// apt from installing the others.
fn is_in_archives(need: &Need) -> bool {
    has_candidate(&policy(&[need.package]))
}

/// What `apt-cache policy` says of `packages`, or without any of the archives; nothing where there is no apt.
fn policy(packages: &[&str]) -> String {
    let mut command = Command::new("apt-cache");
    command.arg("policy").args(packages).env("LC_ALL", "C");
    let said = process::capture(&mut command).map(|said| said.stdout);
    String::from_utf8_lossy(&said.unwrap_or_default()).into_owned()
}

/// Whether apt knows what is in any archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// It does.
    Some,
    /// It was never updated, or reached nothing.
    None,
}

impl Lists {
    fn of_this_machine() -> Self {
        Self::of(&policy(&[]))
    }

    /// By what `apt-cache policy` says: each index of an archive has a line, and so has dpkg's own status; pure.
    fn of(said: &str) -> Self {
        match said.lines().any(|line| line.ends_with(" Packages")) {
            true => Self::Some,
            false => Self::None,
        }
    }
}

/// Whether `apt-cache policy` (apt-cache(8)) names a version that could be installed; pure.
fn has_candidate(said: &str) -> bool {
    let candidate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

fn not_to_be_had(lacking: &[&Need]) -> String {
    let each: Vec<_> = lacking
        .iter()
        .map(|need| format!("{} (for {})", need.package, need.why))
        .collect();
    let programs: Vec<_> = lacking.iter().filter_map(|need| need.program()).collect();
    // Whoever brings a program, it is found: on Ubuntu Chromium comes as a snap.
    let enough = match programs.is_empty() {
        true => String::new(),
        false => format!(" (looked for in PATH: {})", programs.join(", ")),
    };
    format!(
        "the package archives of this machine do not have {}: get what is missing in another way{enough}, and try again",
        each.join(", ")
    )
}

/// Ctrl-C ends the installation, and then us, before the next step.
fn guarded(installation: &mut Command) -> Result<()> {
    let _no_daemons = NoDaemons::begin()?;
    process::show(installation)
}

/// What the user would type.
fn command_line(missing: &[&Need]) -> String {
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

    /// The package of the table with this name.
    fn need(package: &str) -> &'static Need {
        let mut all = super::super::needs::all();
        all.find(|need| need.package == package).unwrap()
    }

    #[test]
    fn what_the_archives_lack_is_named_and_not_asked_of_apt() {
        let (gdisk, chromium) = (need("gdisk"), need("chromium"));
        let is_there = |need: &Need| need.package != "chromium";
        let both = plan(&[gdisk, chromium], is_there, Lists::Some);
        let said = advice_on(&both);
        assert!(
            said.contains("--no-install-recommends gdisk; the"),
            "{said}"
        );
        assert!(said.ends_with("try again"), "{said}");
        let alone = plan(&[chromium], is_there, Lists::Some);
        assert!(alone.wanted.is_empty());
        assert_eq!(
            advice_on(&alone),
            "the package archives of this machine do not have chromium (for the page in a browser): get what is \
             missing in another way (looked for in PATH: chromium), and try again"
        );
    }

    #[test]
    fn where_nothing_is_known_apt_is_asked_for_all() {
        let unknown = plan(&[need("gdisk"), need("chromium")], |_| false, Lists::None);
        let said = advice_on(&unknown);
        assert!(
            said.ends_with("--no-install-recommends gdisk chromium"),
            "{said}"
        );
        let own =
            "Package files:\n 100 /var/lib/dpkg/status\n     release a=now\nPinned packages:\n";
        assert_eq!(Lists::of(own), Lists::None);
        let more = format!("{own} 500 http://deb.example stable/main amd64 Packages\n");
        assert_eq!(Lists::of(&more), Lists::Some);
        assert_eq!(Lists::of(""), Lists::None);
    }
}
