//! `logd`: keeps the output of services.

use std::process::ExitCode;

fn main() -> ExitCode {
    gokrazy_init::cli::logd()
}
