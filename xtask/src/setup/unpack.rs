//! Packages that are unpacked into the target folder instead of installed, and how their programs are called.
//!
//! `setup/tools/<package>` is the tree of a package and of what it needs and the host lacks; `setup/bin/<program>` is a
//! script that runs the program with the tree's libraries.
//! The script is written last and removed first: where it is, the tree was whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gokrazy_core::atomic::{self, Durability};

use super::needs::Need;
use crate::out::say;
use crate::packages;
use crate::workspace::Workspace;

/// Where in a tree programs lie.
const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// Where in a tree, and how deep below that, libraries lie.
const LIBRARIES: [&str; 2] = ["usr/lib", "lib"];

/// The folder of scripts, for `PATH`.
pub(super) fn programs(workspace: &Workspace) -> PathBuf {
    workspace.target().join("setup/bin")
}

/// The script that runs `program`.
pub(super) fn wrapper(workspace: &Workspace, program: &str) -> PathBuf {
    programs(workspace).join(program)
}

/// Whether the tree of `package` holds all that was unpacked.
pub(super) fn is_whole(workspace: &Workspace, package: &str) -> bool {
    packages::is_whole(&tree(workspace, package))
}

/// Fetches and unpacks what is needed, and writes the script.
///
/// # Errors
/// The archives cannot be reached, or do not have the package or its program.
pub(super) fn supply(workspace: &Workspace, need: &Need) -> Result<()> {
    let program = need
        .program()
        .with_context(|| format!("know the program of {}", need.package))?;
    let script = wrapper(workspace, program);
    if script.exists() {
        fs::remove_file(&script).with_context(|| format!("remove {}", script.display()))?;
    }
    let tree = tree(workspace, need.package);
    say!(
        "unpacking {}, for {}: it is not installed",
        need.package,
        need.why
    );
    packages::unpack_for_host(workspace, need.package, &tree)?;
    let text = text(need.package, program, &tree)?;
    fs::create_dir_all(programs(workspace)).context("make the folder for programs")?;
    Ok(atomic::replace(
        &script,
        text.as_bytes(),
        0o755,
        Durability::Volatile,
    )?)
}

/// Where a package is unpacked.
pub(crate) fn tree(workspace: &Workspace, package: &str) -> PathBuf {
    workspace.target().join("setup/tools").join(package)
}

fn text(package: &str, program: &str, tree: &Path) -> Result<String> {
    let path = PROGRAMS
        .iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| tree.join(path).is_file())
        .with_context(|| format!("find {program} in package {package}"))?;
    Ok(script(package, &path, &libraries(tree)?))
}

/// A script that becomes the program at `path` of the tree: its process id stays what the caller was given; pure.
fn script(package: &str, path: &str, libraries: &BTreeSet<String>) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Written by cargo xtask setup: package {package} is unpacked and not installed.\n\
         tree=\"${{0%/*}}/../tools/{package}\"\n"
    );
    let folders: Vec<String> = libraries
        .iter()
        .map(|folder| format!("$tree/{folder}"))
        .collect();
    // An empty part of the list would stand for the current folder.
    if !folders.is_empty() {
        text.push_str(&format!(
            "export LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n",
            folders.join(":")
        ));
    }
    text.push_str(&format!("exec \"$tree/{path}\" \"$@\"\n"));
    text
}

/// Folders of `tree` with shared libraries in them, relative to it.
fn libraries(tree: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = LIBRARIES.iter().map(|name| tree.join(name)).collect();
    while let Some(folder) = waiting.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            } else if name.ends_with(".so") || name.contains(".so.") {
                let relative = folder.strip_prefix(tree).unwrap_or(&folder);
                found.insert(relative.display().to_string());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A workspace's folders with one tree in them, whose program prints its process id and its libraries' folders.
    fn place(name: &str, libraries: &[&str]) -> PathBuf {
        let base = std::env::temp_dir().join(format!("xtask unpack-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let tree = base.join("tools/tool");
        let put = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            atomic::replace(path, text.as_bytes(), 0o755, Durability::Volatile).unwrap();
        };
        put(
            &tree.join("usr/sbin/tool"),
            "#!/bin/sh\necho $$ \"$LD_LIBRARY_PATH\" \"$@\"\n",
        );
        for library in libraries {
            put(&tree.join(library), "");
        }
        put(
            &base.join("bin/tool"),
            &text("tool", "tool", &tree).unwrap(),
        );
        base
    }

    #[track_caller]
    fn check(name: &str, libraries: &[&str], inherited: &str, want: &[&str]) {
        let base = place(name, libraries);
        let child = Command::new(base.join("bin/tool"))
            .arg("a  b")
            .env("LD_LIBRARY_PATH", inherited)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let said = child.wait_with_output().unwrap().stdout;
        let want: Vec<String> = want
            .iter()
            .map(|part| part.replace('@', &format!("{}/bin/../tools/tool/", base.display())))
            .collect();
        assert_eq!(
            String::from_utf8_lossy(&said),
            format!("{id} {} a  b\n", want.join(":"))
        );
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn the_script_becomes_the_program_and_finds_the_tree_s_libraries() {
        let libraries = ["usr/lib/x/liba.so.1", "lib/libb.so", "usr/lib/data/file"];
        check("libraries", &libraries, "/i", &["@lib", "@usr/lib/x", "/i"]);
        check("alone", &libraries, "", &["@lib", "@usr/lib/x"]);
        check("none", &[], "/i", &["/i"]);
    }

    #[test]
    fn a_package_without_its_program_is_told() {
        let base = place("without", &[]);
        let error = text("tool", "other", &base.join("tools/tool")).unwrap_err();
        assert_eq!(error.to_string(), "find other in package tool");
        fs::remove_dir_all(base).unwrap();
    }
}
