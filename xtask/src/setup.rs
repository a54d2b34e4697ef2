//! `cargo xtask setup`: checks this machine for what the other verbs need, and installs what is missing.

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::Workspace;

/// What `setup` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tell what is missing and how to get it, and install nothing.
    #[arg(long)]
    check: bool,
}

/// What the packages are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building images.
    Image,
    /// Booting them in an emulator.
    Run,
    /// All tests.
    Test,
}

/// Makes sure that everything is there, for all purposes.
///
/// # Errors
/// What is missing, and the command that supplies it.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    for purpose in [Purpose::Image, Purpose::Run, Purpose::Test] {
        ensure(workspace, purpose, arguments.check)?;
    }
    Ok(())
}

/// Makes sure that everything is there that `purpose` needs; cheap when it was so the last time.
///
/// # Errors
/// What is missing, and the command that supplies it.
pub(crate) fn ensure(workspace: &Workspace, purpose: Purpose, _check_only: bool) -> Result<()> {
    bail!(
        "set up {purpose:?} in {}: not there yet",
        workspace.target().display()
    )
}
