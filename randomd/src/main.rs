//! Arguments in, exit code out; the work is the library's.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_randomd::args::Args;

fn main() -> ExitCode {
    match gokrazy_randomd::run(&Args::parse()) {
        Ok(()) => ExitCode::from(exit::SUCCESS),
        Err(error) => {
            gokrazy_randomd::log(format_args!("randomd: {error:#}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}
