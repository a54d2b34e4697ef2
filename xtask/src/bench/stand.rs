//! The whole system in namespaces of this machine: init as PID 1, and every daemon that a device has.
//!
//! No emulation, so times, memory and wake-ups are those of real processes.
//! The bounding set takes from all of them the right to set this machine's clock or to reboot it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::paths;

use crate::build::{self, Kind};
use crate::clock::{self, Stopwatch};
use crate::image;
use crate::setup::{self, Purpose};
use crate::toolchain::Architecture;
use crate::vm::lan::{Lan, Plug};
use crate::workspace::Workspace;

/// The page's port.
const PORT: u16 = 80;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How often we look; the error of the measurement.
const PAUSE: Duration = Duration::from_micros(200);

/// What init is started by: a run folder in memory as on a device.
///
/// Told the run folder, the log and init's command, it says when all is ready, and waits for a line.
const SCRIPT: &str = "mount -t tmpfs tmpfs \"$0\"; log=\"$1\"; shift; echo ready; read go; \
    exec \"$@\" </dev/null >>\"$log\" 2>&1";

/// What a run needs, made once.
pub(super) struct Stand {
    lan: Lan,
    folder: PathBuf,
    programs: PathBuf,
}

/// The system while it runs; dropped, it is gone.
pub(super) struct Running {
    launcher: Child,
    /// Since init's exec.
    started: Stopwatch,
    run_dir: PathBuf,
}

impl Stand {
    /// Builds the programs for this machine, and a network with a DHCP and an NTP server.
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        for purpose in [Purpose::Image, Purpose::Test] {
            setup::ensure(workspace, purpose)?;
        }
        ensure!(
            nix::unistd::geteuid().is_root(),
            "namespaces need root: sudo -E cargo xtask bench"
        );
        let folder = workspace.target().join("bench/stand");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let programs = programs(workspace, &folder.join("programs"))?;
        let lan = Lan::new(&folder.join("lan"), Plug::Pair)?;
        Ok(Self {
            lan,
            folder,
            programs,
        })
    }

    /// Starts the system with nothing left from before.
    pub(super) fn start(&self) -> Result<Running> {
        let state = self.folder.join("state");
        if state.exists() {
            fs::remove_dir_all(&state).with_context(|| format!("clear {}", state.display()))?;
        }
        let (run_dir, table) = (state.join("run"), state.join("services.toml"));
        for part in ["run", "home", "dhcp", "ntp", "random"] {
            let path = state.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        self.write_table(&state, &table)?;
        let init = self.programs.join("init");
        self.lan.at_the_plug(move || {
            let mut command = launcher(&[]);
            command
                .args(["sh", "-ec", SCRIPT])
                .arg(&run_dir)
                .arg(state.join("init.log"))
                .arg(&init)
                .arg("--no-boot")
                .arg("--services")
                .arg(&table);
            command
                .arg("--run-dir")
                .arg(&run_dir)
                .arg("--home-dir")
                .arg(state.join("home"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let launcher = command.spawn().context("start init in namespaces")?;
            let mut running = Running {
                launcher,
                started: Stopwatch::start(),
                run_dir,
            };
            running.begin().context("start init in namespaces")?;
            Ok(running)
        })
    }

    /// Time from the start to the first answer of the page on loopback.
    pub(super) fn page_after(&self, running: &Running) -> Result<Duration> {
        let started = running.started;
        self.lan.at_the_plug(move || {
            let answered = clock::poll(LIMIT, PAUSE, || answers().ok());
            answered.context("an answer of the page")?;
            Ok(started.elapsed())
        })
    }

    /// Time from the start to a configured lease.
    pub(super) fn lease_after(&self, running: &Running) -> Result<Duration> {
        let lease = running.run_dir()?.join(paths::NET_DIR).join("eth0");
        let found = clock::poll(LIMIT, PAUSE, || lease.exists().then_some(()));
        found.with_context(|| format!("a lease in {}", lease.display()))?;
        Ok(running.started.elapsed())
    }

    fn write_table(&self, state: &Path, table: &Path) -> Result<()> {
        let program = |name: &str| self.programs.join(name).display().to_string();
        let at = |name: &str| state.join(name).display().to_string();
        let common = format!("\"--run-dir\", \"{}\"", at("run"));
        let command =
            |name: &str, arguments: &str| format!("\"{}\", {common}, {arguments}", program(name));
        let commands = BTreeMap::from([
            (
                "web",
                command(
                    "web",
                    &format!(
                        "\"--listen\", \"127.0.0.1:{PORT}\", \"--http-socket\", \"{}\"",
                        at("http.sock")
                    ),
                ),
            ),
            (
                "dhcp",
                command(
                    "dhcp",
                    &format!(
                        "\"--state-dir\", \"{}\", \"--conflict-check\", \"off\"",
                        at("dhcp")
                    ),
                ),
            ),
            (
                "ntp",
                command(
                    "ntp",
                    &format!("\"--state-dir\", \"{}\", \"--no-rtc\"", at("ntp")),
                ),
            ),
            (
                "randomd",
                format!(
                    "\"{}\", \"--seed-dir\", \"{}\", \"--no-credit\"",
                    program("randomd"),
                    at("random")
                ),
            ),
        ]);
        let text: String = commands
            .iter()
            .map(|(name, command)| {
                format!(
                    "[[service]]\nname = \"{name}\"\ncommand = [{command}]\nuser = \"root\"\n\n"
                )
            })
            .collect();
        atomic::replace(table, text.as_bytes(), 0o644, Durability::Volatile)
            .context("write the services' table")
    }
}

impl Running {
    /// Lets init be executed, once all that stands before it is done.
    fn begin(&mut self) -> Result<()> {
        let mut ready = [0; 6];
        let output = self.launcher.stdout.as_mut().context("its output")?;
        output
            .read_exact(&mut ready)
            .context("wait until it is ready")?;
        let input = self.launcher.stdin.as_mut().context("its input")?;
        self.started = Stopwatch::start();
        input.write_all(b"go\n").context("let it go")
    }

    /// The run folder, which lies in a file system that only the system itself has mounted.
    fn run_dir(&self) -> Result<PathBuf> {
        let init = *self.processes().first().context("init has ended")?;
        let inside = self.run_dir.strip_prefix("/").context("an absolute path")?;
        Ok(Path::new(paths::PROC)
            .join(format!("{init}/root"))
            .join(inside))
    }

    /// Process ids of init and all that it started.
    pub(super) fn processes(&self) -> Vec<u32> {
        // The first one is what started init.
        family(self.launcher.id()).split_off(1)
    }
}

impl Drop for Running {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps this child"
    )]
    fn drop(&mut self) {
        // Found while the launcher still leads to them; until the last is gone, they write files of this run.
        let processes = self.processes();
        // Both fail only if it is gone already; with it goes init, and with init its namespace.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
        let _ = clock::poll(LIMIT, Duration::from_millis(10), || {
            let living = parents();
            processes
                .iter()
                .all(|id| !living.contains_key(id))
                .then_some(())
        });
    }
}

/// What starts a PID 1 of namespaces of its own, of these kinds too (`--net`), that ends with it; the command follows.
///
/// The bounding set takes the right to set this machine's clock or to reboot it.
pub(super) fn launcher(namespaces: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_time,-sys_boot", "unshare"]);
    command.args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]);
    command.args(namespaces);
    command
}

/// Builds the system's programs for this machine, into a folder of their own.
pub(super) fn programs(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => Architecture::Arm64,
        _ => Architecture::Amd64,
    };
    let loaded = image::load_config(workspace, None)?;
    let built = build::programs(workspace, architecture, &loaded.config, &loaded.folder)?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for program in built.iter().filter(|program| program.kind == Kind::System) {
        let copy = folder.join(&program.name);
        fs::copy(&program.path, &copy).with_context(|| format!("copy to {}", copy.display()))?;
    }
    Ok(folder.to_owned())
}

/// Whether the page answers, with whatever status: without a password it is a refusal.
fn answers() -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    ensure!(head.starts_with(b"HTTP/1.1 "), "no answer of a web server");
    Ok(())
}

/// A process and all that descend from it.
pub(super) fn family(root: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children = parents.iter().filter(|(_, of)| **of == parent);
        found.extend(children.map(|(id, _)| *id));
        at += 1;
    }
    found
}

/// The parent of each process.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir(paths::PROC).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((id, parent.trim().parse().ok()?))
        })
        .collect()
}
