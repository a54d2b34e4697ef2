//! A guest from power on to power off; QEMU ends where the guest would start anew, and we play the firmware again.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gokrazy_core::paths;

use super::console::{Console, Echo};
use super::device_tree;
use super::disk::Disk;
use super::fat::BootPartition;
use super::firmware::{PI_3B, interpret};
use super::monitor;
use super::qemu::{self, Card, Clock, Machine, Net, Run, Start};
use crate::clock;
use crate::process::line_of;

/// Ctrl-A and `c`: between the guest's console and QEMU's own.
const TO_QEMU: &str = "\u{1}c";

/// How often we look whether QEMU has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// A machine, what is plugged into it, and where its files lie.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The machine.
    pub(crate) machine: Machine,
    /// Its disk.
    pub(crate) disk: Disk,
    /// What that disk refuses, as a file of QEMU's `blkdebug`.
    pub(crate) faults: Option<PathBuf>,
    /// Folder for what belongs to this guest: extracted boot files, UEFI variables, the console's log.
    pub(crate) folder: PathBuf,
    /// What its network card is plugged into.
    pub(crate) net: Net,
    /// The network namespace in which QEMU runs, if not ours.
    pub(crate) namespace: Option<String>,
    /// What its clocks go by.
    pub(crate) clock: Clock,
    /// When its network card comes.
    pub(crate) card: Card,
    /// Whether the user sees the console.
    pub(crate) echo: Echo,
}

/// How a run of the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It wants to start anew: it said so, or its watchdog or its kernel pulled the reset line.
    Reboot,
    /// It switched itself off.
    PowerOff,
    /// QEMU was told to end, or failed.
    Stopped,
}

/// A guest that runs; dropped, it loses its power.
pub(crate) struct Guest {
    child: Child,
    keyboard: ChildStdin,
    console: Console,
}

impl Guest {
    /// Reads the disk as the firmware would, and switches the machine on.
    ///
    /// # Errors
    /// The disk holds nothing to boot, or QEMU cannot be started.
    pub(crate) fn power_on(setting: &Setting) -> Result<Self> {
        fs::create_dir_all(&setting.folder)
            .with_context(|| format!("make folder {}", setting.folder.display()))?;
        let start = start(setting)?;
        let arguments = qemu::arguments(Run {
            machine: setting.machine,
            disk: setting.disk.path(),
            faults: setting.faults.as_deref(),
            start: &start,
            net: &setting.net,
            clock: &setting.clock,
            card: setting.card,
            // Of a namespace's own loopback nobody else has any port.
            monitor: setting.namespace.as_ref().map(|_| monitor::PORT),
        });
        let mut command = launcher(setting);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints(setting)?)
            .spawn()
            .with_context(|| format!("start {}", line_of(&command)))?;
        let output = child.stdout.take().context("take QEMU's output")?;
        let keyboard = child.stdin.take().context("take QEMU's input")?;
        let console = Console::follow(output, &setting.folder.join("console.log"), setting.echo)?;
        Ok(Self {
            child,
            keyboard,
            console,
        })
    }

    /// Types on its console.
    ///
    /// # Errors
    /// QEMU is gone.
    pub(crate) fn type_in(&mut self, text: &str) -> Result<()> {
        let typed = self.keyboard.write_all(text.as_bytes());
        typed.context("type on the guest's console")
    }

    /// Tells QEMU to do something to the machine: plug in a disk, press the power button.
    ///
    /// # Errors
    /// QEMU is gone.
    pub(crate) fn monitor(&mut self, command: &str) -> Result<()> {
        self.type_in(&format!("{TO_QEMU}{command}\n{TO_QEMU}"))
    }

    /// Its serial console.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// QEMU cannot be waited for.
    pub(crate) fn ending(&mut self) -> Result<Option<Ending>> {
        let Some(status) = self.child.try_wait().context("wait for QEMU")? else {
            return Ok(None);
        };
        self.console.finish();
        let lines = self.console.lines();
        let said = |words: &str| lines.iter().rev().take(20).any(|line| line.contains(words));
        Ok(Some(match (status.success(), said("reboot: Power down")) {
            (false, _) => Ending::Stopped,
            (true, true) => Ending::PowerOff,
            (true, false) => Ending::Reboot,
        }))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) -> Result<Ending> {
        let mut failed = None;
        let ending = clock::poll(limit, PAUSE, || match self.ending() {
            Ok(ending) => ending,
            Err(error) => {
                failed = Some(error);
                Some(Ending::Stopped)
            }
        });
        match (failed, ending) {
            (Some(error), _) => Err(error),
            (None, Some(ending)) => Ok(ending),
            (None, None) => bail!("the guest still runs after {} s", limit.as_secs()),
        }
    }

    /// Cuts its power: what it has not written is lost.
    pub(crate) fn cut_power(mut self) {
        self.stop();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps this child"
    )]
    fn stop(&mut self) {
        // Both fail only if QEMU is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.console.finish();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Name of the file with what QEMU itself says; it can be noisy about packets that the guest does not take yet.
const COMPLAINTS: &str = "qemu.log";

#[expect(
    clippy::disallowed_methods,
    reason = "a log that QEMU writes while it runs"
)]
fn complaints(setting: &Setting) -> Result<fs::File> {
    let path = setting.folder.join(COMPLAINTS);
    fs::File::create(&path).with_context(|| format!("make {}", path.display()))
}

/// What QEMU itself said in its last run.
pub(crate) fn complaint(setting: &Setting) -> String {
    fs::read_to_string(setting.folder.join(COMPLAINTS)).unwrap_or_default()
}

/// QEMU in its namespace, killed by the kernel when we are: no orphan keeps a disk busy.
fn launcher(setting: &Setting) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(namespace) = &setting.namespace {
        command.args(["ip", "netns", "exec", namespace]);
    }
    command.arg(setting.machine.program());
    command
}

/// Plays the firmware: a Pi's reads the FAT partition; UEFI does so itself.
fn start(setting: &Setting) -> Result<Start> {
    match setting.machine {
        Machine::Raspi3b => extract(setting.disk.path(), &setting.folder),
        Machine::Virt => uefi(
            &setting.folder,
            "/usr/share/AAVMF/AAVMF_CODE.fd",
            "/usr/share/AAVMF/AAVMF_VARS.fd",
        ),
        Machine::Pc => uefi(
            &setting.folder,
            "/usr/share/OVMF/OVMF_CODE_4M.fd",
            "/usr/share/OVMF/OVMF_VARS_4M.fd",
        ),
    }
}

/// What this firmware adds to the command line, as the Pi's own adds its part: QEMU's model of the Pi's watchdog
/// resets the machine when it is armed, instead of when it runs out (`bcm2835_powermgt.c`).
const OF_THE_FIRMWARE: &str = "gokrazy.watchdog=off";

fn extract(disk: &Path, folder: &Path) -> Result<Start> {
    let partition = BootPartition::open(disk)?;
    let config = partition.text("config.txt")?;
    let files = interpret(&config, PI_3B, |name| partition.has(name))
        .with_context(|| format!("boot from {}", disk.display()))?;
    let take = |name: &str, target: &str| -> Result<PathBuf> {
        let path = folder.join(target);
        write(&path, &partition.read(name)?)?;
        Ok(path)
    };
    Ok(Start::Direct {
        kernel: take(&files.kernel, "kernel")?,
        initramfs: files
            .initramfs
            .map(|name| take(&name, "initramfs"))
            .transpose()?,
        device_tree: {
            let path = folder.join("device-tree");
            write(&path, &seeded(&partition.read(&files.device_tree)?)?)?;
            path
        },
        command_line: format!(
            "{} {OF_THE_FIRMWARE}",
            partition.text(&files.command_line)?.trim()
        ),
    })
}

/// Bytes of chance that a Pi's firmware hands to the kernel.
const SEED: usize = 64;

/// The device tree with a seed for the kernel's pool, as the firmware hands it over.
fn seeded(tree: &[u8]) -> Result<Vec<u8>> {
    let mut seed = [0; SEED];
    fs::File::open(paths::URANDOM)
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("draw a seed for the guest")?;
    device_tree::with_seed(tree, &seed).context("find /chosen in the device tree")
}

/// UEFI with variables of the guest's own, which outlive a reboot.
fn uefi(folder: &Path, code: &str, variables: &str) -> Result<Start> {
    let own = folder.join("uefi-variables");
    if !own.exists() {
        fs::copy(variables, &own)
            .with_context(|| format!("copy {variables} to {}", own.display()))?;
    }
    Ok(Start::Firmware {
        code: code.into(),
        variables: own,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "QEMU reads it only after we have written it"
)]
fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
