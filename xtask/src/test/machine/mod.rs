//! The machine level: real images boot in QEMU, and are judged from outside.
//!
//! A scenario flashes an image to a disk of its own, switches the machine on, and looks at its page, its console, what
//! its servers were asked, and, once it is off, its disk.
//! What is emulated is proven for the emulator: `docs/platforms.md` says what was seen on boards.

mod bare;
mod card;
mod console;
mod entropy;
mod hardware_clock;
mod isolation;
mod lab;
mod parts;
mod perm;
mod pi;
mod plug;
mod run;
mod slots;
mod trouble;
mod uefi;
mod vlan;
mod without;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gokrazy_core::atomic::{self, Durability};

use self::lab::Lab;
use super::report::Report;
use crate::image;
use crate::run::board;
use crate::setup::{self, Purpose};
use crate::vm::lan::{Lan, Plug};
use crate::vm::qemu::Machine;
use crate::workspace::Workspace;

/// A story that a machine goes through.
struct Scenario {
    name: &'static str,
    machine: Machine,
    /// Least size of its disk in bytes; 0 for the image's own, or what QEMU takes above that.
    disk: u64,
    /// Its configuration, if not the workspace's.
    config: Option<&'static str>,
    play: fn(&Lab, &mut Steps<'_>) -> Result<()>,
}

const GIB: u64 = 1024 * 1024 * 1024;

/// All of them, the one that most depends on first.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a Pi 3B boots, serves and reboots",
        machine: Machine::Raspi3b,
        disk: 4 * GIB,
        config: None,
        play: pi::boots_and_reboots,
    },
    Scenario {
        name: "an arm64 machine boots by UEFI",
        machine: Machine::Virt,
        disk: 4 * GIB,
        config: None,
        play: uefi::boots_stumbles_and_reboots,
    },
    Scenario {
        name: "an amd64 machine boots by UEFI",
        machine: Machine::Pc,
        disk: 4 * GIB,
        config: None,
        play: uefi::boots_and_reboots,
    },
    Scenario {
        name: "services are fenced in",
        machine: Machine::Pc,
        disk: 4 * GIB,
        config: Some(isolation::CONFIG),
        play: isolation::services_are_fenced_in,
    },
    Scenario {
        name: "a broken root falls back to the other slot",
        machine: Machine::Raspi3b,
        disk: 0,
        config: None,
        play: slots::broken_root,
    },
    Scenario {
        name: "a slot table lost twice does not matter",
        machine: Machine::Raspi3b,
        disk: 0,
        config: None,
        play: slots::no_table,
    },
    Scenario {
        name: "a card is too small",
        machine: Machine::Raspi3b,
        disk: 0,
        config: None,
        play: card::too_small,
    },
    Scenario {
        name: "a trial slot has its attempts and no more",
        machine: Machine::Virt,
        disk: 0,
        config: None,
        play: slots::trial,
    },
    Scenario {
        name: "a root without modules for the kernel gives way",
        machine: Machine::Virt,
        disk: 0,
        config: None,
        play: slots::no_modules,
    },
    Scenario {
        name: "a machine does without web, or without dhcp",
        machine: Machine::Virt,
        disk: 0,
        config: Some(without::CONFIG),
        play: without::web_or_dhcp,
    },
    Scenario {
        name: "a network adapter comes late",
        machine: Machine::Virt,
        disk: 0,
        config: None,
        play: plug::late_adapter,
    },
    Scenario {
        name: "a broken /perm is left as it is",
        machine: Machine::Virt,
        disk: 0,
        config: None,
        play: perm::broken,
    },
    Scenario {
        name: "the power fails during the first boot",
        machine: Machine::Virt,
        disk: 4 * GIB,
        config: None,
        play: perm::power_cut,
    },
];

/// The tests that need no image.
const COLD_POOL: &str = "only a seed of this machine's own initialises a cold random pool";
const HARDWARE_CLOCK: &str =
    "ntp starts from the hardware clock, and sets it once it is synchronised";
const VLAN: &str = "dhcp makes VLANs, and gets a lease inside one";

/// The test that needs no network of ours.
const RUN: &str = "`cargo xtask run` shows the page, survives a reboot and ends on Ctrl-C";

/// Counts the steps of a scenario that went well.
pub(super) struct Steps<'a> {
    scenario: &'static str,
    report: &'a mut Report,
}

impl Steps<'_> {
    /// Counts one.
    pub(super) fn passed(&mut self, what: &str) {
        self.report
            .case(&format!("{}: {what}", self.scenario), Ok(()));
    }
}

/// Plays the scenarios whose name holds `only`.
pub(super) fn run(workspace: &Workspace, only: &str, report: &mut Report) {
    report.title("machine: images in QEMU, which plays the firmware");
    let lan = match prepare(workspace) {
        Ok(lan) => lan,
        Err(error) => return report.case("machine tests can run here", Err(error)),
    };
    if COLD_POOL.contains(only) {
        report.case(COLD_POOL, entropy::check(workspace));
    }
    if HARDWARE_CLOCK.contains(only) {
        report.case(HARDWARE_CLOCK, hardware_clock::check(workspace));
    }
    if VLAN.contains(only) {
        report.case(VLAN, vlan::check(workspace));
    }
    if RUN.contains(only) {
        report.case(RUN, run::check(workspace));
    }
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| scenario.name.contains(only))
    {
        report.title(scenario.name);
        if let Err(error) = play(workspace, &lan, scenario, report) {
            report.case(scenario.name, Err(error));
        }
    }
}

fn prepare(workspace: &Workspace) -> Result<Lan> {
    for purpose in [Purpose::Image, Purpose::Run, Purpose::Test] {
        setup::ensure(workspace, purpose)?;
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("a network of its own needs root: sudo -E cargo xtask test machine");
    }
    Lan::new(&workspace.target().join("vm/lan"), Plug::Tap)
}

fn play(workspace: &Workspace, lan: &Lan, scenario: &Scenario, report: &mut Report) -> Result<()> {
    let config = scenario
        .config
        .map(|text| configuration(workspace, scenario, text));
    let arguments = image::Arguments {
        config: config.transpose()?,
        board: Some(board(scenario.machine)),
        kernel: None,
        output: None,
    };
    let image = image::build(workspace, &arguments)?;
    let folder = workspace
        .target()
        .join("vm")
        .join(scenario.name.replace([' ', '/', ','], "-"));
    let lab = Lab::new(lan, scenario.machine, &image, folder, scenario.disk)?;
    (scenario.play)(
        &lab,
        &mut Steps {
            scenario: scenario.name,
            report,
        },
    )
}

/// The scenario's own configuration, as a file.
fn configuration(workspace: &Workspace, scenario: &Scenario, text: &str) -> Result<PathBuf> {
    let folder = workspace.target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{}.toml", scenario.name.replace(' ', "-")));
    atomic::replace(&path, text.as_bytes(), 0o644, Durability::Volatile)?;
    Ok(path)
}
