//! Arguments in, exit code out; the work is the library's.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_ntp::args::Args;

fn main() -> ExitCode {
    match gokrazy_ntp::run(Args::parse()) {
        Ok(()) => ExitCode::from(exit::SUCCESS),
        Err(error) => {
            gokrazy_ntp::log::log(format_args!("ntp: {error:#}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}
