//! dhcp beside BusyBox udhcpc, dhcpcd and ISC dhclient, all before the same dnsmasq, turn by turn in one run.
//!
//! The time is from a client's start to its address in the kernel, which `ip monitor` tells of.
//! udhcpc and dhclient configure by a script of two lines, the least that they can do with.
//! Memory is the most that was resident of all processes of a client (`VmHWM`), pages of libraries included.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::paths;

use super::dhcp_stand::{Forged, LINK, Running, Stand, settle, transaction};
use super::rest::{field, median, milliseconds};
use super::table::{Table, Unit};
use crate::out::say;
use crate::process;
use crate::setup::{self, Purpose};
use crate::toolchain::Architecture;
use crate::workspace::Workspace;

/// Rounds of all clients; the median counts.
const ROUNDS: usize = 9;

/// Rounds of the careful check, each of which takes up to seven seconds.
const CAREFUL_ROUNDS: usize = 3;

/// `ANNOUNCE_WAIT` of RFC 5227: from the last probe to the address's use.
const ANNOUNCE_WAIT: f64 = 2000.0;

/// How long a client that has nothing to do is watched.
const IDLE: Duration = Duration::from_secs(20);

/// The flood: replies a second, and for how long.
const FLOOD: u32 = 2000;
const FLOOD_FOR: Duration = Duration::from_secs(10);

/// A hardware address that the server has nothing for.
const UNSERVED: [u8; 6] = [2, 0, 0, 0, 0x6b, 0x66];

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    for purpose in [Purpose::Test, Purpose::BenchDhcp] {
        setup::ensure(workspace, purpose)?;
    }
    let program = build(workspace)?;
    let size = fs::metadata(&program).context("look at dhcp")?.len() as f64;
    table.add(
        "dhcp: program, static, stripped",
        size,
        1.2 * MIB,
        Unit::Bytes,
    );
    let stand = Stand::new(&workspace.target().join("bench/dhcp"))?;
    times(&stand, &program, table)?;
    at_rest(&stand, &program, table)?;
    flood(&stand, &program, table)
}

/// A client as it is started.
struct Client {
    name: &'static str,
    command: Vec<String>,
    milliseconds: Vec<f64>,
    memory: Vec<f64>,
}

fn clients(stand: &Stand, program: &Path) -> Vec<Client> {
    let script = stand.script().display().to_string();
    let client = |name, command: &[&str]| Client {
        name,
        command: command.iter().map(ToString::to_string).collect(),
        milliseconds: Vec::new(),
        memory: Vec::new(),
    };
    let ours = |name, check| Client {
        command: ours(program, check),
        ..client(name, &[])
    };
    vec![
        ours("dhcp, check off", "off"),
        ours("dhcp, check fast", "fast"),
        client(
            "udhcpc",
            &["busybox", "udhcpc", "-f", "-i", LINK, "-s", &script],
        ),
        client(
            "dhcpcd",
            &["dhcpcd", "-B", "-4", "-A", "-f", paths::DEV_NULL, LINK],
        ),
        client(
            "dhclient",
            &[
                "dhclient",
                "-4",
                "-d",
                "-cf",
                paths::DEV_NULL,
                "-sf",
                &script,
                LINK,
            ],
        ),
    ]
}

fn ours(program: &Path, check: &str) -> Vec<String> {
    let program = program.display().to_string();
    let fixed = [
        "--state-dir",
        "/var/lib/dhcp",
        "--run-dir",
        paths::RUN,
        "--interface",
        LINK,
    ];
    let fixed = fixed.map(str::to_owned);
    [
        &[program][..],
        &fixed,
        &["--conflict-check".to_owned(), check.to_owned()],
    ]
    .concat()
}

fn times(stand: &Stand, program: &Path, table: &mut Table) -> Result<()> {
    let mut clients = clients(stand, program);
    for round in 0..=ROUNDS {
        say!("dhcp and its peers: round {round} of {ROUNDS}");
        for client in &mut clients {
            let (running, took) = stand.time(&client.command)?;
            // The first round fills the caches.
            if round > 0 {
                client.milliseconds.push(milliseconds(took));
                client.memory.push(memory(&running));
            }
        }
    }
    report(&mut clients, table);
    let mut beyond = Vec::new();
    for round in 1..=CAREFUL_ROUNDS {
        say!("dhcp with the careful check: round {round} of {CAREFUL_ROUNDS}");
        let since = stand.time_since_last_probe(&ours(program, "full"))?;
        beyond.push(milliseconds(since) - ANNOUNCE_WAIT);
    }
    table.add(
        "dhcp, check full: beyond the RFC's waits",
        median(&mut beyond),
        50.0,
        Unit::Milliseconds,
    );
    Ok(())
}

fn report(clients: &mut [Client], table: &mut Table) {
    let medians: Vec<f64> = clients
        .iter_mut()
        .map(|client| median(&mut client.milliseconds))
        .collect();
    let (ours, peers) = medians.split_at(2.min(medians.len()));
    let off = ours.first().copied().unwrap_or(f64::NAN);
    let fastest = peers.iter().copied().fold(f64::INFINITY, f64::min);
    let budgets = [Some(fastest), Some(off + 250.0)];
    let budgets = budgets.into_iter().chain(std::iter::repeat(None));
    for ((client, median), budget) in clients.iter().zip(&medians).zip(budgets) {
        let what = format!("{}: start to address", client.name);
        match budget {
            Some(budget) => table.add(what, *median, budget, Unit::Milliseconds),
            None => table.note(what, *median, Unit::Milliseconds),
        }
    }
    for (at, client) in clients.iter_mut().enumerate() {
        let what = format!("{}: most memory, until then", client.name);
        let most = client.memory.iter().copied().fold(0.0, f64::max);
        match at {
            0 | 1 => table.add(what, most, MIB, Unit::Bytes),
            _ => table.note(what, most, Unit::Bytes),
        }
    }
}

fn memory(running: &Running) -> f64 {
    let of = |id: &u32| field(&status(*id), "VmHWM:").unwrap_or_default() * 1024.0;
    running.processes().iter().map(of).sum()
}

fn status(id: u32) -> String {
    fs::read_to_string(format!("{}/{id}/status", paths::PROC)).unwrap_or_default()
}

fn at_rest(stand: &Stand, program: &Path, table: &mut Table) -> Result<()> {
    say!("dhcp at rest: watching for {} s", IDLE.as_secs());
    let (running, _) = stand.time(&ours(program, "off"))?;
    settle();
    let before = switches(&running);
    thread::sleep(IDLE);
    let woken = (switches(&running) - before) / IDLE.as_secs_f64();
    table.add("dhcp: wake-ups between timers", woken, 0.0, Unit::PerSecond);
    Ok(())
}

fn switches(running: &Running) -> f64 {
    let of = |id: &u32| field(&status(*id), "voluntary_ctxt_switches:").unwrap_or_default();
    running.processes().iter().map(of).sum()
}

/// The client asks and is not answered, so that it listens for replies all the time; first to forgers who do not know
/// its transaction id, then to those who have seen it.
fn flood(stand: &Stand, program: &Path, table: &mut Table) -> Result<()> {
    say!(
        "dhcp in two floods: {FLOOD} forged replies a second for {} s",
        FLOOD_FOR.as_secs()
    );
    let mac = UNSERVED.map(|byte| format!("{byte:02x}")).join(":");
    stand.ip(&["link", "set", LINK, "address", &mac])?;
    let wire = stand.tap()?;
    let mut running = stand.start(&ours(program, "off"))?;
    let xid = transaction(wire, UNSERVED)?;
    settle();
    for (what, xid) in [
        ("dhcp: processor in a flood", None),
        ("dhcp: the same, with its transaction id", Some(xid)),
    ] {
        let before = on_processor(&running)?;
        let forged = Forged { mac: UNSERVED, xid };
        stand.flood(forged, FLOOD, FLOOD_FOR)?;
        let spent = on_processor(&running)? - before;
        ensure!(
            running.is_alive(),
            "dhcp ended in a flood of forged replies"
        );
        let share = 100.0 * spent / FLOOD_FOR.as_nanos() as f64;
        table.add(what, share, 2.0, Unit::Percent);
    }
    Ok(())
}

/// Nanoseconds that it was on a processor.
fn on_processor(running: &Running) -> Result<f64> {
    let mut sum = 0.0;
    for id in running.processes() {
        let path = format!("{}/{id}/schedstat", paths::PROC);
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let first = text
            .split(' ')
            .next()
            .and_then(|number| number.parse::<f64>().ok());
        sum += first.with_context(|| format!("read {path}"))?;
    }
    Ok(sum)
}

/// Builds dhcp for this machine as it is built for devices.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => Architecture::Arm64,
        _ => Architecture::Amd64,
    };
    let toolchain = setup::ensure_toolchain(workspace, architecture)?;
    let mut command = toolchain.cargo_build(workspace, architecture)?;
    command.args(["-p", "gokrazy-dhcp", "--bin", "dhcp"]);
    process::show(&mut command)?;
    Ok(toolchain
        .output_folder(workspace, architecture)
        .join("dhcp"))
}
