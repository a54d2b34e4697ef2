//! Init as the machine's PID 1: boot, supervise our daemons and the image's services, and end the machine's run.
//!
//! What can be configured is the image's services; our daemons stand in [`system`], so that no configuration keeps
//! the device from its network and its page.

pub mod end;
pub mod folders;
pub mod system;
pub mod watchdog;

use std::path::Path;
use std::process::ExitCode;

use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::boot::{self, BootReport};
use gokrazy_core::control::End;
use gokrazy_core::{exit, paths};

use crate::runtime::devices::Devices;
use crate::runtime::options::Options;
use crate::service::{self, load};
use crate::{SuperviseError, supervise};

/// Boots the machine, supervises its services, and ends its run; comes back only where even that is refused.
pub fn run(options: Options, services: &Path) -> ExitCode {
    let report = boot::boot();
    let mut complaints = folders::prepare(&options.run_dir);
    complaints.extend(report.problems.iter().cloned());
    complaints.extend(publish(&options.run_dir, &report));
    let system = system::services();
    let mut reserved: Vec<&str> = system.iter().map(|service| service.name.as_str()).collect();
    reserved.extend([service::INIT_LOG, service::KERNEL_LOG, service::LOG_KEEPER]);
    let loaded = load::load(services, &reserved);
    complaints.extend(loaded.complaints);
    let all = system.iter().cloned().chain(loaded.services).collect();
    let devices = Devices {
        hotplug: report.hotplug,
        watchdog: Some(watchdog::Watchdog::new()),
    };
    let end = match supervise(all, complaints, options, devices) {
        Ok(end) => end,
        Err(error) => {
            tell_why(&error);
            End::Reboot
        }
    };
    end::end(end);
    ExitCode::from(exit::FAILURE)
}

fn publish(run_dir: &Path, report: &BootReport) -> Option<String> {
    let path = run_dir.join(paths::BOOT_INFO);
    let text = report.info.render();
    let written = atomic::replace(&path, text.as_bytes(), 0o644, Durability::Volatile);
    written
        .err()
        .map(|error| format!("{error}: {}", error.io_error()))
}

fn tell_why(error: &SuperviseError) {
    let cause = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    eprintln!("init: {error}: {cause}");
}
