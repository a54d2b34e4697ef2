//! Init as the machine's PID 1: boot, supervise, and end the machine's run.

use std::path::Path;
use std::process::ExitCode;

use gokrazy_core::exit;

use crate::runtime::options::Options;
use crate::supervise_with;

/// Boots the machine, supervises its services, and ends its run.
pub fn run(options: Options, services: &Path) -> ExitCode {
    match supervise_with(options, services) {
        Ok(_) | Err(_) => ExitCode::from(exit::FAILURE),
    }
}
