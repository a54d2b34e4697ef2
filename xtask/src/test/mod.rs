//! `cargo xtask test`: everything that CI runs, level by level, with an account at the end that is true.
//!
//! Nothing is skipped in silence: what cannot run here counts as failed, and says which command supplies what is
//! missing.
//! What each level means stands in `docs/testing.md`.

mod ahead;
mod browser;
mod cargo;
mod machine;
mod report;
mod style;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::ahead::Ahead;
use self::report::Report;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// What `test` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to run; without it everything.
    #[arg(value_enum, value_name = "LEVEL")]
    levels: Vec<Level>,
    /// Of the levels named only the tests whose name holds these words (`tidy` for the rules of the house).
    #[arg(long, value_name = "WORDS", requires = "levels")]
    only: Option<String>,
}

/// A kind of test, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Formatting, clippy with warnings denied, and the rules of the house.
    Style,
    /// Unit tests and the examples in documents: no root, no network, no clock.
    Pure,
    /// The real programs in namespaces, against real peers. Needs root.
    Process,
    /// Images in emulated machines. Needs root.
    Machine,
    /// The page in headless Chromium.
    Browser,
}

impl Level {
    const ALL: [Self; 5] = [
        Self::Style,
        Self::Pure,
        Self::Process,
        Self::Machine,
        Self::Browser,
    ];

    fn run(self, workspace: &Workspace, only: &str, report: &mut Report) {
        match self {
            Self::Style => style::run(workspace, only, report),
            Self::Pure => pure_tests(workspace, only, report),
            Self::Process => process_tests(workspace, only, report),
            Self::Machine => machine::run(workspace, only, report),
            Self::Browser => browser::run(workspace, report),
        }
    }
}

/// Runs the levels asked for, in their order, all of them even if one fails.
///
/// # Errors
/// Some test failed; the account is on standard output.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let asked = |level: &Level| arguments.levels.is_empty() || arguments.levels.contains(level);
    let only = arguments.only.as_deref().unwrap_or_default();
    if !only.is_empty() && asked(&Level::Browser) {
        bail!("--only does not choose among browser tests: they share one page; leave it out");
    }
    let mut report = Report::new();
    let machines_follow = only.is_empty() && asked(&Level::Machine);
    for level in Level::ALL.into_iter().filter(asked) {
        let ahead = match level {
            Level::Process if machines_follow => Ahead::start(workspace),
            Level::Process | Level::Style | Level::Pure | Level::Machine | Level::Browser => {
                Ahead::nothing()
            }
        };
        level.run(workspace, only, &mut report);
        ahead.finish();
    }
    report.print(arguments.levels.is_empty());
    match (report.passed(), report.failed()) {
        (0, 0) => bail!("no test's name holds `{only}`"),
        (_, 0) => Ok(()),
        (passed, failed) => bail!("{failed} of {} tests failed", failed + passed),
    }
}

fn pure_tests(workspace: &Workspace, only: &str, report: &mut Report) {
    let units = ["--lib", "--bins"];
    cargo::run(workspace, report, "unit tests", &units, only);
    cargo::run(workspace, report, "examples in documents", &["--doc"], only);
}

fn process_tests(workspace: &Workspace, only: &str, report: &mut Report) {
    report.title("process: the real programs in namespaces");
    let ready = setup::ensure(workspace, Purpose::Test).and_then(|()| match nix::unistd::geteuid()
        .is_root()
    {
        true => Ok(()),
        false => bail!("namespaces need root: sudo -E cargo xtask test process"),
    });
    match ready {
        Ok(()) => cargo::run(workspace, report, "process tests", &["--test", "*"], only),
        Err(error) => report.case("process tests can run here", Err(error)),
    }
}
