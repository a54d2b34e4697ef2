//! Entry point of `cargo xtask`.

use std::process::ExitCode;

use gokrazy_core::exit;

fn main() -> ExitCode {
    match xtask::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
