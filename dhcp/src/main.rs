//! Entry point: flags, exit code.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_dhcp::config::{Args, Config};
use gokrazy_dhcp::daemon;

fn main() -> ExitCode {
    let config = match Config::new(Args::parse()) {
        Ok(config) => config,
        Err(error) => return fail(&error, exit::USAGE),
    };
    match daemon::run(config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("dhcp: {error:#}");
    ExitCode::from(code)
}
