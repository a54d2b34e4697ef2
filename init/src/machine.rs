//! Init as the machine's PID 1: boot, supervise our daemons and the image's services, and end the machine's run.
//!
//! What can be configured is the image's services; our daemons stand in [`system`], so that no configuration keeps
//! the device from its network and its page.

pub mod allowance;
pub mod button;
pub mod cables;
pub mod end;
pub mod folders;
pub mod forwarding;
pub mod page_line;
pub mod system;
pub mod watchdog;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::boot::{self, BootReport};
use gokrazy_core::cmdline::CommandLine;
use gokrazy_core::control::End;
use gokrazy_core::{exit, paths};

use nix::sys::reboot::set_cad_enabled;

use crate::runtime::devices::Devices;
use crate::runtime::options::Options;
use crate::runtime::panic;
use crate::service::{self, load};
use crate::supervise;

/// Boots the machine, supervises its services, and ends its run; comes back only where even that is refused.
pub fn run(options: Options, services: &Path) -> ExitCode {
    panic::survive();
    let mut complaints = Vec::new();
    // A fresh init after a bug finds the machine booted; devices that come later stay without their modules.
    // Ctrl-Alt-Del is a signal to us then, instead of a restart in the middle of everything.
    let _ = set_cad_enabled(false);
    let hotplug = if panic::count() == 0 {
        let report = boot::boot();
        complaints = folders::prepare(&options.run_dir);
        complaints.extend(report.problems.iter().cloned());
        complaints.extend(publish(&options.run_dir, &report));
        report.hotplug
    } else {
        None
    };
    let mut system = system::services();
    match forwarding::target(&command_line()) {
        Ok(target) => system.extend(target.map(|target| system::forwarder(&target))),
        Err(complaint) => complaints.push(complaint),
    }
    let mut reserved: Vec<&str> = system.iter().map(|service| service.name.as_str()).collect();
    reserved.extend([service::INIT_LOG, service::KERNEL_LOG, service::LOG_KEEPER]);
    let loaded = load::load(services, &reserved);
    complaints.extend(loaded.complaints);
    let all = system.iter().cloned().chain(loaded.services).collect();
    let devices = Devices {
        hotplug,
        mounts: loaded
            .mounts
            .into_iter()
            .map(|placed| placed.mount)
            .collect(),
        watchdog: watchdog_is_wanted(&command_line()).then(watchdog::Watchdog::new),
    };
    let (end, devices) = supervise(all, complaints, options, devices).unwrap_or_else(|error| {
        eprintln!("init: {}", error.with_cause());
        (End::Reboot, Devices::default())
    });
    end::end(end, devices.watchdog);
    ExitCode::from(exit::FAILURE)
}

fn command_line() -> CommandLine {
    CommandLine::parse(&fs::read_to_string(paths::PROC_CMDLINE).unwrap_or_default())
}

/// Off only by `gokrazy.watchdog=off`: for machines whose watchdog does harm, as the one of QEMU's Pi 3, which
/// resets the machine the moment it is armed.
fn watchdog_is_wanted(line: &CommandLine) -> bool {
    line.value("gokrazy.watchdog") != Some("off")
}

fn publish(run_dir: &Path, report: &BootReport) -> Option<String> {
    let path = run_dir.join(paths::BOOT_INFO);
    let text = report.info.render();
    let written = atomic::replace(&path, text.as_bytes(), 0o644, Durability::Volatile);
    written
        .err()
        .map(|error| format!("{error}: {}", error.io_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_off_only_where_the_command_line_says_so() {
        let wanted = |line| watchdog_is_wanted(&CommandLine::parse(line));
        assert!(wanted("root=/dev/x"));
        assert!(wanted("gokrazy.watchdog=on"));
        assert!(!wanted("root=/dev/x gokrazy.watchdog=off"));
    }
}
