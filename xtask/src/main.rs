//! Builds images, boots them, tests and measures: `cargo xtask <verb>`.

#![expect(dead_code, reason = "the verbs move in one after the other")]

mod build;
mod cli;
mod digest;
mod image;
mod packages;
mod process;
mod setup;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;

fn main() -> ExitCode {
    match cli::dispatch(cli::Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
