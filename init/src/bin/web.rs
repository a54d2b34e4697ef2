//! Entry point of `web`.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_init::web::{self, config::Args};

fn main() -> ExitCode {
    match web::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
