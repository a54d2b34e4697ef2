//! Packages for this host that are not installed on it: which ones, asked of the host's own archives.
//!
//! The private apt root of this module sees the host's sources, preferences and installed packages, so that only what
//! the host lacks is fetched; apt only answers here, and neither installs nor removes anything.
//! Root is not needed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::{Root, host_path};
use super::lock::Lock;
use crate::process;

/// Paths of the host that the private root has in common with it, as `apt-config shell` names them.
const HOST_PATHS: [(&str, &str); 5] = [
    ("Dir::State::status", "f"),
    ("Dir::Etc::sourcelist", "f"),
    ("Dir::Etc::sourceparts", "d"),
    ("Dir::Etc::preferences", "f"),
    ("Dir::Etc::preferencesparts", "d"),
];

/// Whose lists of packages are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// The host's, as they are: on a machine that is looked after nothing need be fetched.
    Hosts,
    /// Our own, fetched anew: the host's may be empty, or name versions that the archives have no longer.
    Fresh,
}

/// The private root below `folder`.
///
/// # Errors
/// There is no apt on this host, or the archives cannot be reached.
pub(super) fn root(folder: &Path, lists: Lists) -> Result<Root> {
    let architectures = architectures()?;
    let words: Vec<&str> = architectures.split_whitespace().collect();
    let mut settings = String::new();
    for (name, kind) in HOST_PATHS {
        settings.push_str(&format!("{name} \"{}\";\n", host_path(name, kind)?));
    }
    if lists == Lists::Hosts {
        let path = host_path("Dir::State::lists", "d")?;
        settings.push_str(&format!("Dir::State::lists \"{path}\";\n"));
    }
    settings.push_str(&default_release()?);
    // apt locks even what it only reads, and may not lock what is root's.
    settings.push_str("Debug::NoLocking \"true\";\n");
    let root = Root::make(folder.join("apt-host"), &words, &settings)?;
    if lists == Lists::Fresh {
        process::capture(root.tool("apt-get").args(["-q", "update"]))
            .context("reach the package archives of this machine")?;
    }
    Ok(root)
}

/// `package` and all that it needs and this host lacks.
///
/// # Errors
/// The archives do not have it, or apt takes it to be installed.
pub(super) fn closure(root: &Root, package: &str) -> Result<Lock> {
    let said = process::capture(root.tool("apt-get").args([
        "-q",
        "-y",
        "--no-install-recommends",
        "--print-uris",
        "install",
        package,
    ]))?;
    let names = versioned(&String::from_utf8_lossy(&said.stdout));
    if names.is_empty() {
        bail!(
            "apt takes {package} to be installed, but not all of it is there; \
             this mends it: sudo apt-get install --reinstall {package}"
        );
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // What apt would install it names with weak hashes; asked to fetch the same packages, with strong ones.
    root.locate(&names)
}

/// From apt's lines `'URI' name_version_architecture.deb size …` to `name:architecture=version`; pure.
fn versioned(said: &str) -> Vec<String> {
    said.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| {
            let file = line.split(' ').nth(1)?.strip_suffix(".deb")?;
            let mut parts = file.splitn(3, '_');
            let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
            // A colon of the version is written so in file names.
            let version = version.replace("%3a", ":");
            Some(match architecture {
                "all" => format!("{name}={version}"),
                _ => format!("{name}:{architecture}={version}"),
            })
        })
        .collect()
}

/// The host's architectures, its own first.
fn architectures() -> Result<String> {
    let mut words = String::new();
    for option in ["--print-architecture", "--print-foreign-architectures"] {
        let said = process::capture(Command::new("dpkg").arg(option))?;
        words.push_str(&String::from_utf8_lossy(&said.stdout));
    }
    Ok(words)
}

/// The setting by which the host prefers one release to others.
fn default_release() -> Result<String> {
    let dump = process::capture(Command::new("apt-config").arg("dump"))?;
    Ok(String::from_utf8_lossy(&dump.stdout)
        .lines()
        .filter(|line| line.starts_with("APT::Default-Release "))
        .map(|line| format!("{line}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_package_version_and_architecture() {
        let said = "Reading package lists...\nThe following packages will be REMOVED:\n  other\n\
            'http://m/q%2bds_amd64.deb' q-arm_1%3a7.2+ds-7_amd64.deb 89 MD5Sum:c4\n\
            'http://m/d_1_all.deb' d_1~2_all.deb 129 \n";
        assert_eq!(versioned(said), ["q-arm:amd64=1:7.2+ds-7", "d=1~2"]);
    }
}
