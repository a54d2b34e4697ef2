//! The style level: rustfmt, clippy, and the rules of [`crate::tidy`].

use std::process::Command;

use anyhow::{Result, anyhow};

use super::report::Report;
use crate::process;
use crate::tidy::{self, Verdict};
use crate::workspace::Workspace;

const FORMAT: &[&str] = &["fmt", "--all", "--check"];

const LINT: &[&str] = &[
    "clippy",
    "--quiet",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Runs all of it.
pub(super) fn run(workspace: &Workspace, only: &str, report: &mut Report) {
    report.title("style: rustfmt, clippy, the rules of the house");
    for (name, arguments) in [
        ("cargo fmt --check", FORMAT),
        ("cargo clippy, warnings denied", LINT),
    ] {
        if name.contains(only) {
            report.case(name, cargo(workspace, arguments));
        }
    }
    let chosen = |rule: &str| format!("tidy: {rule}").contains(only);
    match tidy::check_all(workspace, chosen) {
        Ok(verdicts) => verdicts
            .into_iter()
            .for_each(|verdict| judge(report, verdict)),
        Err(error) => report.case("tidy can look at the workspace", Err(error)),
    }
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::show(
        Command::new("cargo")
            .current_dir(workspace.root())
            .args(arguments),
    )
}

fn judge(report: &mut Report, verdict: Verdict) {
    let list: Vec<_> = verdict.breaches.iter().map(ToString::to_string).collect();
    let outcome = match list.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(list.join("\n"))),
    };
    report.case(&format!("tidy: {}", verdict.rule), outcome);
}
