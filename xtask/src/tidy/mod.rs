//! The rules of the house that no compiler holds: `cargo xtask test style` runs them, and so does `cargo test`.
//!
//! Each rule is a function from the workspace to breaches; a breach names file, line and the way out.
//! Rules on single files live in [`shape`], sizes in [`budgets`], what depends on what in [`dependencies`], what the
//! documents promise in [`documents`].
//! An exception is a row in the table beside its rule, with its reason.

mod budgets;
mod dependencies;
mod documents;
mod programs;
mod shape;
mod source;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::tree::Tree;
use crate::workspace::Workspace;

/// A place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    /// The file, relative to the workspace.
    pub(crate) path: PathBuf,
    /// Line, from 1; 0 where the breach is the file itself.
    pub(crate) line: usize,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl Breach {
    fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self::at(path, 0, message)
    }

    fn at(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.message),
        }
    }
}

/// A rule: its name, and what looks for breaches.
pub(crate) struct Rule {
    /// For people.
    pub(crate) name: &'static str,
    check: fn(&Tree) -> Result<Vec<Breach>>,
}

/// Rules that read files alone and so run anywhere in a moment.
const READING: &[Rule] = &[
    Rule {
        name: "files and folders keep to their budgets",
        check: budgets::check,
    },
    Rule {
        name: "every module says what lives there",
        check: shape::module_docs,
    },
    Rule {
        name: "test modules are called `tests`",
        check: shape::test_module_names,
    },
    Rule {
        name: "pure modules touch nothing",
        check: shape::purity,
    },
    Rule {
        name: "each well-known path is spelled once",
        check: shape::path_literals,
    },
    Rule {
        name: "unsafe code has one address",
        check: shape::lints,
    },
    Rule {
        name: "docs/files.md and gokrazy_core::paths agree",
        check: documents::files_contract,
    },
    Rule {
        name: "CI runs what the README says",
        check: documents::one_command,
    },
    Rule {
        name: "dependencies point one way",
        check: dependencies::manifests,
    },
];

/// Rules on the finished tree: they need the programs built, cargo's resolver, or every room's documents.
const WHOLE: &[Rule] = &[
    Rule {
        name: "the documents are there",
        check: documents::present,
    },
    Rule {
        name: "only web knows tokio and axum",
        check: dependencies::runtime_stays_in_web,
    },
    Rule {
        name: "man pages list every flag",
        check: programs::man_pages,
    },
    Rule {
        name: "PID 1 links no runtime",
        check: programs::init_links_no_runtime,
    },
];

/// What became of a rule.
pub(crate) struct Verdict {
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// Where it does not hold; empty if it does.
    pub(crate) breaches: Vec<Breach>,
}

/// Looks at the whole workspace, by those rules whose name is `chosen`.
///
/// # Errors
/// A file that cannot be read, or a build that fails.
pub(crate) fn check_all(
    workspace: &Workspace,
    chosen: impl Fn(&str) -> bool,
) -> Result<Vec<Verdict>> {
    let tree = Tree::read(workspace)?;
    READING
        .iter()
        .chain(WHOLE)
        .filter(|rule| chosen(rule.name))
        .map(|rule| rule.judge(&tree))
        .collect()
}

impl Rule {
    fn judge(&self, tree: &Tree) -> Result<Verdict> {
        Ok(Verdict {
            rule: self.name,
            breaches: (self.check)(tree)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let tree = Tree::read(&Workspace::find().unwrap()).unwrap();
        for rule in READING {
            let breaches = rule.judge(&tree).unwrap().breaches;
            let list: Vec<_> = breaches.iter().map(ToString::to_string).collect();
            assert!(breaches.is_empty(), "{}:\n{}", rule.name, list.join("\n"));
        }
    }
}
