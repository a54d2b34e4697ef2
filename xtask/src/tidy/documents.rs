//! What the documents promise: that they are there, lead somewhere, and agree with the code.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Breach;
use super::tree::Tree;

/// What every reader may expect to find.
const DOCUMENTS: [&str; 9] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "docs/architecture.md",
    "docs/files.md",
    "docs/platforms.md",
    "docs/style.md",
    "docs/testing.md",
];

pub(super) fn present(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches: Vec<_> = DOCUMENTS
        .iter()
        .filter(|path| !tree.has(path))
        .map(|path| Breach::of_file(Path::new(path), "is missing"))
        .collect();
    if tree.has("CHANGELOG.md") && !tree.text("CHANGELOG.md")?.contains("\n## Unreleased\n") {
        breaches.push(Breach::of_file(
            Path::new("CHANGELOG.md"),
            "keep a section `## Unreleased`",
        ));
    }
    for document in &tree.documents {
        breaches.extend(dead_links(tree, document)?);
    }
    Ok(breaches)
}

fn dead_links(tree: &Tree, document: &Path) -> Result<Vec<Breach>> {
    let folder = document.parent().unwrap_or(Path::new(""));
    let text = tree.text(document)?;
    let dead = links(&text).filter(|(_, target)| !exists(tree, &folder.join(target)));
    Ok(dead
        .map(|(line, target)| Breach::at(document, line, format!("`{target}` leads nowhere")))
        .collect())
}

fn exists(tree: &Tree, path: &Path) -> bool {
    tree.workspace().root().join(path).exists()
}

/// Relative targets of Markdown links, without their fragments, and the lines they stand on.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split("](").skip(1).filter_map(move |rest| {
            let target = rest.split([')', '#']).next()?;
            let relative = !target.is_empty() && !target.contains("://");
            relative.then_some((index + 1, target))
        })
    })
}

pub(super) fn one_command(tree: &Tree) -> Result<Vec<Breach>> {
    let script = Path::new(".ci/run");
    let text = tree.text(script)?;
    let calls = text
        .lines()
        .any(|line| line.trim() == "exec cargo xtask test");
    let breach = || {
        Breach::of_file(
            script,
            "call `exec cargo xtask test`, and decide nothing here",
        )
    };
    Ok((!calls).then(breach).into_iter().collect())
}

const PATHS: &str = "crates/gokrazy-core/src/paths.rs";
const CONTRACT: &str = "docs/files.md";

/// Folders whose files the contract lists.
const SHARED: [&str; 3] = ["/run/gokrazy", "/perm", "/etc/gokrazy"];

pub(super) fn files_contract(tree: &Tree) -> Result<Vec<Breach>> {
    let constants = constants(&tree.text(PATHS)?);
    let contract = tree.text(CONTRACT)?;
    let rows = rows(&contract);
    let mut breaches: Vec<_> = constants
        .iter()
        .filter(|constant| {
            is_shared(&constant.value) && !is_listed(&constant.value, &contract, &rows)
        })
        .map(|constant| {
            let message = format!(
                "`{}` has no row in {CONTRACT}: owner, format, mode, absence",
                constant.value
            );
            Breach::at(Path::new(PATHS), constant.line, message)
        })
        .collect();
    breaches.extend(twice(&constants));
    let unknown = rows.iter().filter(|row| {
        !constants
            .iter()
            .any(|constant| row.is_below(&constant.value))
    });
    breaches.extend(unknown.map(|row| {
        let message = format!("`{}` is no constant in {PATHS}", row.path);
        Breach::at(Path::new(CONTRACT), row.line, message)
    }));
    Ok(breaches)
}

/// A path that two constants spell.
fn twice(constants: &[Constant]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (index, constant) in constants.iter().enumerate() {
        let before = constants
            .iter()
            .take(index)
            .any(|other| other.value == constant.value);
        breaches.extend(before.then(|| {
            let message = format!("`{}` has a constant already", constant.value);
            Breach::at(Path::new(PATHS), constant.line, message)
        }));
    }
    breaches
}

struct Constant {
    line: usize,
    value: String,
}

fn constants(text: &str) -> Vec<Constant> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let value = line.strip_prefix("pub const ")?.split_once("&str = \"")?.1;
            let value = value.trim_end_matches("\";").to_owned();
            Some(Constant {
                line: index + 1,
                value,
            })
        })
        .collect()
}

fn is_shared(value: &str) -> bool {
    SHARED.iter().any(|folder| value.starts_with(folder)) || !value.starts_with('/')
}

fn is_listed(value: &str, contract: &str, rows: &[Row]) -> bool {
    let in_prose =
        contract.contains(&format!("`{value}`")) || contract.contains(&format!("below `{value}"));
    in_prose || rows.iter().any(|row| row.is_below(value))
}

/// The first cell of a table's row.
struct Row {
    line: usize,
    path: String,
}

impl Row {
    /// Whether the row is about `value`, or a file in it: `net/<if>` is below `net`, `random/` below `/perm/random`.
    fn is_below(&self, value: &str) -> bool {
        let relative = SHARED
            .iter()
            .find_map(|folder| value.strip_prefix(folder))
            .map_or(value, |rest| rest.trim_start_matches('/'));
        [value, relative].into_iter().any(|name| {
            let rest = self.path.strip_prefix(name);
            !name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

fn rows(contract: &str) -> Vec<Row> {
    let lines = contract.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let path = line.strip_prefix("| `")?.split('`').next()?.to_owned();
            Some(Row {
                line: index + 1,
                path,
            })
        })
        .collect()
}

/// The manual of `program`, relative to the workspace.
pub(super) fn manual(program: &str) -> PathBuf {
    Path::new("docs/man").join(format!("{program}.8.md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_without_fragments_and_foreign_ones_are_left() {
        let text = "a [b](c.md#d) [e](https://f)\n[g](#h) [i](j/k)";
        assert_eq!(links(text).collect::<Vec<_>>(), [(1, "c.md"), (2, "j/k")]);
    }

    #[test]
    fn a_row_covers_its_folder() {
        let row = |path: &str| Row {
            line: 1,
            path: path.to_owned(),
        };
        assert!(row("net/<if>").is_below("net"));
        assert!(row("random/").is_below("/perm/random"));
        assert!(row("/etc/gokrazy/build-id").is_below("/etc/gokrazy/build-id"));
        assert!(!row("network").is_below("net"));
    }

    #[test]
    fn constants_are_read_with_their_lines() {
        let found = constants("/// A.\npub const A: &str = \"/run/a\";\n");
        assert_eq!((found[0].line, found[0].value.as_str()), (2, "/run/a"));
    }
}
