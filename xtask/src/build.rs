//! `cargo xtask build`: the programs of an image, static and stripped, for a device.

use anyhow::{Result, bail};
use clap::Args;

use crate::toolchain::Architecture;
use crate::workspace::Workspace;

/// What `build` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Processor to build for.
    #[arg(long, value_enum, default_value = "arm64")]
    target: Architecture,
}

/// Builds the system's programs and those that the configuration names.
///
/// # Errors
/// What the compiler said.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    bail!(
        "build for {} in {}: not there yet",
        arguments.target.debian(),
        workspace.target().display()
    )
}
