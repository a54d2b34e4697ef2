//! Supervisors in namespaces of this machine, and what one sees of them from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::paths;

use super::peers::{MEMORY, Peer};
use crate::bench::stand;
use crate::clock::{self, Stopwatch};
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// Name of the program that services run; a process's name has at most 15 bytes.
const IDLE: &str = "gokrazy-idle";

/// How long anything may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// How often services are counted, which itself takes a few milliseconds.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a supervisor is left alone before its memory is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// What all runs need, made once.
pub(super) struct Stage {
    idle: PathBuf,
    init: PathBuf,
    /// Where s6-supervise is, if it is not installed.
    s6: PathBuf,
    /// Where runsv is, which runsvdir starts by its name.
    runit: PathBuf,
}

/// A supervisor at work; dropped, it is gone.
pub(super) struct Running {
    launcher: Child,
    /// PID 1 of the namespace, by its number out here.
    pub(super) first: u32,
    /// From the supervisor's start until all its services ran.
    pub(super) started_ms: f64,
}

impl Stage {
    /// Builds init for this machine and gets the peers.
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        for purpose in [Purpose::Image, Purpose::Test, Purpose::BenchInit] {
            setup::ensure(workspace, purpose)?;
        }
        ensure!(
            nix::unistd::geteuid().is_root(),
            "namespaces need root: sudo -E cargo xtask bench init"
        );
        let folder = workspace.target().join("bench/init");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let programs = stand::programs(workspace, &folder)?;
        let idle = folder.join(IDLE);
        let sleep = setup::program("sleep").context("find sleep")?;
        // One that a run that was killed left behind may still use it.
        let _ = fs::remove_file(&idle);
        fs::copy(&sleep, &idle).with_context(|| format!("copy {}", sleep.display()))?;
        Ok(Self {
            idle,
            init: programs.join("init"),
            s6: setup::tree(workspace, "s6").join("usr/bin"),
            runit: setup::tree(workspace, "runit").join("usr/bin"),
        })
    }

    /// Starts a supervisor of `count` idle services and waits until all run.
    pub(super) fn start(&self, peer: Peer, count: usize) -> Result<Running> {
        let script = peer.script(count, &self.idle, &self.init, &self.s6);
        let mut running = self.run(peer, &script)?;
        let watch = Stopwatch::start();
        let all = clock::poll(LIMIT, PAUSE, || (idle().len() == count).then_some(()));
        all.with_context(|| format!("all of {count} services: {} run", idle().len()))?;
        running.started_ms = watch.elapsed().as_secs_f64() * 1000.0;
        Ok(running)
    }

    /// Starts our init with a table of its own.
    pub(super) fn start_ours(&self, table: &str) -> Result<Running> {
        let script = Peer::Ours.script(0, &self.idle, &self.init, &self.s6);
        let table = format!("cat >>{MEMORY}/services.toml <<'END'\n{table}END\necho go\n");
        self.run(Peer::Ours, &script.replacen("echo go\n", &table, 1))
    }

    /// The program that does nothing.
    pub(super) fn idle(&self) -> &Path {
        &self.idle
    }

    fn run(&self, peer: Peer, script: &str) -> Result<Running> {
        ensure!(idle().is_empty(), "services of another run are left");
        let mut command = stand::launcher(&["--uts", "--ipc", "--net"]);
        command
            .args(peer.namespaces())
            .args(["sh", "-es"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut launcher = command.spawn().context("start a supervisor")?;
        // Longer than an argument may be.
        let mut input = launcher.stdin.take().context("have the script's input")?;
        let script = format!("PATH=\"$PATH:{}\"\n{script}", self.runit.display());
        input
            .write_all(script.as_bytes())
            .context("hand the script over")?;
        drop(input);
        let output = launcher.stdout.take();
        let mut running = Running {
            launcher,
            first: 0,
            started_ms: 0.0,
        };
        let mut line = String::new();
        BufReader::new(output.context("have the script's output")?)
            .read_line(&mut line)
            .context("wait for the script")?;
        ensure!(line == "go\n", "its preparations failed");
        let children = format!(
            "{0}/{1}/task/{1}/children",
            paths::PROC,
            running.launcher.id()
        );
        let first = fs::read_to_string(&children).context("find PID 1")?;
        running.first = first.trim().parse().context("find PID 1")?;
        Ok(running)
    }
}

impl Running {
    /// Bytes of all processes but the services.
    pub(super) fn memory(&self) -> Result<f64> {
        std::thread::sleep(SETTLE);
        let parents = parents();
        let mut found = vec![self.first];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            found.extend(
                parents
                    .iter()
                    .filter(|(_, of)| **of == parent)
                    .map(|(id, _)| *id),
            );
            at += 1;
        }
        let supervisors = found.iter().filter(|id| name(**id) != IDLE);
        supervisors.map(|id| share(*id)).sum()
    }

    /// Bytes of PID 1.
    pub(super) fn memory_of_first(&self) -> Result<f64> {
        std::thread::sleep(SETTLE);
        share(self.first)
    }

    /// PID 1's children of that name.
    pub(super) fn children(&self, wanted: &str) -> Vec<u32> {
        let path = format!("{0}/{1}/task/{1}/children", paths::PROC, self.first);
        let text = fs::read_to_string(path).unwrap_or_default();
        let all = text.split_whitespace().filter_map(|word| word.parse().ok());
        all.filter(|id| name(*id) == wanted).collect()
    }

    /// PID 1's children that run the idle program.
    pub(super) fn idle_children(&self) -> Vec<u32> {
        self.children(IDLE)
    }

    /// Waits for the launcher, which ends with PID 1; `None` if that takes too long.
    pub(super) fn ended(&mut self) -> Option<()> {
        let mut look = || self.launcher.try_wait().ok().flatten().map(|_| ());
        clock::poll(LIMIT, Duration::from_millis(1), &mut look)
    }
}

impl Drop for Running {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps this child"
    )]
    fn drop(&mut self) {
        // Both fail only if it is gone already; with it goes PID 1, and with that its namespace.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
        let _ = clock::poll(LIMIT, PAUSE, || idle().is_empty().then_some(()));
    }
}

/// All processes that run the idle program.
fn idle() -> Vec<u32> {
    processes().filter(|id| name(*id) == IDLE).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(paths::PROC).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn name(process: u32) -> String {
    let name = fs::read_to_string(format!("{}/{process}/comm", paths::PROC));
    name.unwrap_or_default().trim_end().to_owned()
}

fn parents() -> BTreeMap<u32, u32> {
    processes()
        .filter_map(|id| Some((id, stat(id)?.1)))
        .collect()
}

/// State and parent of a process (proc_pid_stat(5)).
pub(super) fn stat(process: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("{}/{process}/stat", paths::PROC)).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// How many zombies a process has to wait for.
pub(super) fn zombies(parent: u32) -> usize {
    processes()
        .filter(|id| stat(*id) == Some(('Z', parent)))
        .count()
}

fn share(process: u32) -> Result<f64> {
    let path = format!("{}/{process}/smaps_rollup", paths::PROC);
    let rollup = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib: f64 = pss
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("find Pss in {path}"))?;
    Ok(kib * super::KIB)
}
