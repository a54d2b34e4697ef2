//! What holds of the built programs: manuals beside `--help`, and what PID 1 is linked from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Breach;
use super::documents::manual;
use super::tree::Tree;
use crate::process;
use crate::workspace::Workspace;

/// Programs with a manual, and the ways to ask each for help.
const PROGRAMS: &[(&str, &[&[&str]])] = &[
    (
        "init",
        &[
            &["--help"],
            &["ctl", "--help"],
            &["ctl", "start", "--help"],
            &["ctl", "logs", "--help"],
        ],
    ),
    ("logd", &[&["--help"]]),
    ("web", &[&["--help"]]),
    ("dhcp", &[&["--help"]]),
    ("ntp", &[&["--help"]]),
    ("randomd", &[&["--help"]]),
];

pub(super) fn man_pages(tree: &Tree) -> Result<Vec<Breach>> {
    build(tree.workspace())?;
    let mut breaches = Vec::new();
    for (program, ways) in PROGRAMS {
        let page = manual(program);
        if !tree.has(&page) {
            breaches.push(Breach::of_file(&page, "is missing"));
            continue;
        }
        let mut help = String::new();
        for way in *ways {
            let output =
                process::capture(Command::new(binary(tree.workspace(), program)).args(*way))?;
            help.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        breaches.extend(compare(&page, &help, &tree.text(&page)?));
    }
    Ok(breaches)
}

fn compare(page: &Path, help: &str, manual: &str) -> Vec<Breach> {
    let offered = flags(help);
    let explained = flags(manual);
    let missing = offered
        .difference(&explained)
        .map(|flag| format!("`{flag}` is in --help and not here"));
    // A manual may name flags of other programs in its prose, so only headings of its own are held against it.
    let headings: String = manual
        .lines()
        .filter(|line| is_heading(line))
        .collect::<Vec<_>>()
        .join("\n");
    let stale = flags(&headings);
    let stale = stale
        .difference(&offered)
        .map(|flag| format!("`{flag}` is here and not in --help"));
    missing
        .chain(stale)
        .map(|message| Breach::of_file(page, message))
        .collect()
}

/// Whether the line introduces a flag: it begins with one, behind Markdown's signs.
fn is_heading(line: &str) -> bool {
    line.trim_start_matches(['#', '*', '`', '-', '_', '|', ' ', ':'])
        .len()
        < line.len()
        && line
            .trim_start_matches(['#', '*', '`', '_', '|', ' ', ':'])
            .starts_with("--")
}

/// The long flags that a text names; `--help` and `--version` go without saying.
fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .map(|word| word.trim_end_matches('-').to_owned())
        .filter(|flag| flag != "--help" && flag != "--version" && flag.len() > 2)
        .collect()
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace.root())
        .args(["build", "--quiet", "--workspace", "--bins"]);
    process::show(&mut command)
}

fn binary(workspace: &Workspace, program: &str) -> PathBuf {
    workspace.target().join("debug").join(program)
}

pub(super) fn init_links_no_runtime(tree: &Tree) -> Result<Vec<Breach>> {
    build(tree.workspace())?;
    let path = binary(tree.workspace(), "init");
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let found = ["tokio", "hyper", "axum"]
        .into_iter()
        .filter(|name| contains(&bytes, symbol(name).as_bytes()));
    Ok(found
        .map(|name| {
            Breach::of_file(
                Path::new("init/src/main.rs"),
                format!("PID 1 must not link {name}"),
            )
        })
        .collect())
}

/// How a crate's name stands in a mangled symbol: its length, then itself.
fn symbol(name: &str) -> String {
    format!("{}{name}", name.len())
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_manual_are_compared_both_ways() {
        let help = "  -i, --interface <NAME>  which\n      --run-dir <DIR>\n  -h, --help\n";
        let manual = "**--interface** *NAME*\n: as `udhcpc --foo` has it\n\n**--old**\n: gone\n";
        let got: Vec<_> = compare(Path::new("m"), help, manual)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            got,
            [
                "m: `--run-dir` is in --help and not here",
                "m: `--old` is here and not in --help"
            ]
        );
    }

    #[test]
    fn rulers_are_no_flags() {
        assert!(flags("| --- |---|\n----\n").is_empty());
    }
}
