//! Entry point of `web`.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_init::web::{self, config::Args, report::report};

fn main() -> ExitCode {
    match web::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("{error:#}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}
