//! What may depend on what: daemons know the shared crates and never each other, and one program has a runtime.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Breach;
use super::tree::Tree;
use crate::process;

/// Our packages, and which of ours each may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("crates/gokrazy-sys", &[]),
    ("crates/gokrazy-core", &["gokrazy-sys"]),
    ("crates/gokrazy-netlink", &[]),
    ("crates/web-password", &[]),
    ("crates/hello", &["gokrazy-core"]),
    ("init", &["gokrazy-core", "gokrazy-sys", "web-password"]),
    ("dhcp", &["gokrazy-core", "gokrazy-netlink", "gokrazy-sys"]),
    ("ntp", &["gokrazy-core", "gokrazy-sys"]),
    ("randomd", &["gokrazy-core", "gokrazy-sys"]),
    // An image's services are checked by the rules that its init will apply.
    ("xtask", &["gokrazy-core", "gokrazy-init", "web-password"]),
];

/// Packages of ours, as manifests name them.
const OURS: [&str; 10] = [
    "gokrazy-core",
    "gokrazy-sys",
    "gokrazy-netlink",
    "gokrazy-init",
    "gokrazy-dhcp",
    "gokrazy-ntp",
    "gokrazy-randomd",
    "hello",
    "web-password",
    "xtask",
];

pub(super) fn manifests(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for (folder, allowed) in ALLOWED {
        let manifest: PathBuf = [folder, "Cargo.toml"].iter().collect();
        let used = dependencies(&tree.text(&manifest)?);
        let wrong = used
            .iter()
            .filter(|name| OURS.contains(&name.as_str()) && !allowed.contains(&name.as_str()));
        breaches.extend(wrong.map(|name| {
            Breach::of_file(
                &manifest,
                format!("must not depend on {name}: daemons meet in files"),
            )
        }));
    }
    Ok(breaches)
}

/// Names in a manifest's dependency tables, those for tests left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table == "dependencies" || table.ends_with(".dependencies");
            names.extend(table.strip_prefix("dependencies.").map(str::to_owned));
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    names
}

/// Crates that make a runtime or a web server.
const RUNTIME: [&str; 4] = ["tokio", "axum", "hyper", "tower"];

/// Every package that goes on a device; init without the feature that makes `web`.
const WITHOUT_RUNTIME: [&str; 8] = [
    "gokrazy-core",
    "gokrazy-sys",
    "gokrazy-netlink",
    "gokrazy-init",
    "gokrazy-dhcp",
    "gokrazy-ntp",
    "gokrazy-randomd",
    "hello",
];

pub(super) fn runtime_stays_in_web(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for package in WITHOUT_RUNTIME {
        let mut command = Command::new("cargo");
        command
            .current_dir(tree.workspace().root())
            .args(["tree", "--package", package, "--no-default-features"])
            .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        let output = process::capture(&mut command)?;
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        breaches.extend(runtimes(&listing).map(|name| {
            let message =
                format!("{package} without its default features must not depend on {name}");
            Breach::of_file(Path::new("Cargo.lock"), message)
        }));
    }
    Ok(breaches)
}

fn runtimes(listing: &str) -> impl Iterator<Item = &'static str> + '_ {
    RUNTIME.into_iter().filter(|name| {
        listing
            .lines()
            .any(|line| line.split(' ').next() == Some(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_dependency_is_seen_and_tests_are_free() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\nd = { path = \"d\" }\n[dependencies.e]\nversion = \"1\"\n\
                        [dev-dependencies]\nf = \"1\"\n";
        assert_eq!(dependencies(manifest), ["a", "b", "d", "e"]);
    }

    #[test]
    fn a_runtime_is_found_by_its_whole_name() {
        let found: Vec<_> = runtimes("a v1\ntokio-macros v1\naxum v0.8.9\n").collect();
        assert_eq!(found, ["axum"]);
    }
}
