//! Builds images, boots them, tests and measures: `cargo xtask <verb>`.

mod bench;
mod build;
mod cli;
mod clock;
mod digest;
mod image;
mod packages;
mod process;
mod progress;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use anyhow::Result;
use clap::Parser;

/// Reads the command line and does what it asks.
///
/// # Errors
/// Whatever stopped the verb.
pub fn run() -> Result<()> {
    cli::dispatch(cli::Arguments::parse().command)
}
