//! Builds images, boots them, tests and measures: `cargo xtask <verb>`.

#![expect(dead_code, reason = "the verbs move in one after the other")]

mod bench;
mod build;
mod cli;
mod clock;
mod digest;
mod image;
mod packages;
mod process;
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
