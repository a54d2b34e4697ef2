//! Builds images, boots them, tests and measures: `cargo xtask <verb>`.

#![deny(clippy::print_stdout)]

mod bench;
mod build;
mod cli;
mod clock;
mod digest;
mod image;
mod linker;
mod out;
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

pub use out::Unread;

/// Reads the command line and does what it asks.
///
/// # Errors
/// Whatever stopped the verb; [`Unread`] if nobody reads standard output any more.
pub fn run() -> Result<()> {
    out::catching(|| cli::dispatch(cli::Arguments::parse().command))
}
