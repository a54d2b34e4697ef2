//! Entry point: flags, exit code.

use std::process::ExitCode;

use clap::Parser;
use gokrazy_core::exit;
use gokrazy_dhcp::config::{Args, Config};
use gokrazy_dhcp::daemon;
use gokrazy_dhcp::log::{Log, Verbosity};

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
    let log = Log {
        verbosity: Verbosity::Events,
    };
    // Not by eprintln, which panics when nobody listens.
    log.event("dhcp", format!("{error:#}"));
    ExitCode::from(code)
}
