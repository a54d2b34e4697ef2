//! Entry point of `cargo xtask`.

use std::process::ExitCode;

use gokrazy_core::exit;

/// What a shell says of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    match xtask::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<xtask::Unread>() => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
