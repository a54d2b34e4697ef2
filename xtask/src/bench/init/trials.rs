//! What only we promise: restarts, orphans, ends and floods.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::peers::Peer;
use super::stage::{LIMIT, Running, Stage, stat, zombies};
use crate::bench::table::{Table, Unit};
use crate::clock::{self, Stopwatch};

/// How long init is watched at rest.
const WATCH: Duration = Duration::from_secs(20);

/// Restarts that are measured.
const RESTARTS: usize = 300;

/// The delay that the table asks for.
const DELAY: Duration = Duration::from_millis(20);

/// Orphans that come at once.
const ORPHANS: usize = 10_000;

/// Bytes of the flood.
const FLOOD: u64 = 1_000_000_000;

/// What gokrazy's init takes in a second on one processor, in bytes.
const GOKRAZY_RATE: f64 = 413e6;

pub(super) fn all(stage: &Stage, table: &mut Table) -> Result<()> {
    down(stage, table).context("end 50 services")?;
    restarts(stage, table).context("measure restarts")?;
    orphans(stage, table).context("measure orphans")?;
    flood(stage, table).context("measure a flood")
}

/// Context switches a second of init and logd.
pub(super) fn wake_ups(running: &Running) -> Result<f64> {
    let processes = || [vec![running.first], running.children("logd")].concat();
    let before = switches(&processes())?;
    thread::sleep(WATCH);
    Ok((switches(&processes())? - before) as f64 / WATCH.as_secs_f64())
}

fn switches(processes: &[u32]) -> Result<u64> {
    let one = |id: &u32| -> Result<u64> {
        let path = format!("{}/{id}/status", paths::PROC);
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        Ok(lines
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum())
    };
    processes.iter().map(one).sum()
}

fn down(stage: &Stage, table: &mut Table) -> Result<()> {
    let mut running = stage.start(Peer::Ours, 50)?;
    let watch = Stopwatch::start();
    signal(running.first, Signal::SIGTERM)?;
    running.ended().context("wait for the end")?;
    table.add(
        "init: end of 50 services",
        milliseconds(watch.elapsed()),
        450.0,
        Unit::Milliseconds,
    );
    Ok(())
}

/// From the death of a service to its next run's exec, less the delay.
///
/// Whoever measures is served before all others, lest a busy machine be taken for a slow init.
fn restarts(stage: &Stage, table: &mut Table) -> Result<()> {
    let delay = DELAY.as_millis();
    let running = stage.start_ours(&format!(
        "[[service]]\nname = \"a\"\nuser = \"root\"\nrestart = \"always\"\nrestart-delay = \"{delay}ms\"\n\
         restart-delay-max = \"{delay}ms\"\ncommand = [\"{}\", \"100000\"]\n",
        stage.idle().display()
    ))?;
    let next = |old: u32| {
        clock::poll(LIMIT, Duration::from_micros(50), || {
            running.idle_children().into_iter().find(|id| *id != old)
        })
    };
    let dead = |id: u32| {
        clock::poll(LIMIT, Duration::from_micros(20), || {
            stat(id).is_none_or(|(state, _)| state == 'Z').then_some(())
        })
    };
    precedence("-f", "50")?;
    let mut now = next(0).context("wait for the first run")?;
    let mut late = Vec::new();
    for _ in 0..RESTARTS {
        thread::sleep(Duration::from_millis(5));
        signal(now, Signal::SIGKILL)?;
        dead(now).context("wait for its death")?;
        let watch = Stopwatch::start();
        now = next(now).context("wait for the next run")?;
        late.push(milliseconds(watch.elapsed().saturating_sub(DELAY)));
    }
    precedence("-o", "0")?;
    late.sort_by(f64::total_cmp);
    let at = |share: usize| {
        late.get(late.len() * share / 100)
            .copied()
            .unwrap_or(f64::NAN)
    };
    table.note(
        "init: exit to exec beyond the delay, median",
        at(50),
        Unit::Milliseconds,
    );
    table.add(
        "init: exit to exec beyond the delay, 99th percentile",
        at(99),
        5.0,
        Unit::Milliseconds,
    );
    Ok(())
}

/// Chooses this process's scheduling (`chrt(1)`).
fn precedence(policy: &str, priority: &str) -> Result<()> {
    let us = std::process::id().to_string();
    let status = Command::new("chrt")
        .args([policy, "-p", priority, &us])
        .status()
        .context("start chrt")?;
    ensure!(status.success(), "chrt {policy} {priority}: {status}");
    Ok(())
}

/// A process with ten thousand children that have ended is killed: init has to wait for them all.
fn orphans(stage: &Stage, table: &mut Table) -> Result<()> {
    let running = stage.start_ours(&format!(
        "[[service]]\nname = \"a\"\nuser = \"root\"\nrestart = \"never\"\n\
         command = [\"perl\", \"-e\", \"for (1..{ORPHANS}) {{ fork // die or exit }} sleep 100000\"]\n"
    ))?;
    let parent = clock::poll(LIMIT, Duration::from_millis(10), || {
        running.children("perl").pop()
    });
    let parent = parent.context("wait for the parent")?;
    let full = clock::poll(LIMIT, Duration::from_millis(100), || {
        (zombies(parent) == ORPHANS).then_some(())
    });
    full.with_context(|| format!("{ORPHANS} children: there are {}", zombies(parent)))?;
    let watch = Stopwatch::start();
    signal(parent, Signal::SIGKILL)?;
    let none = clock::poll(LIMIT, Duration::from_millis(5), || {
        (zombies(parent) + zombies(running.first) == 0).then_some(())
    });
    none.context("wait until all are gone")?;
    table.add(
        "init: 10,000 orphans reaped",
        milliseconds(watch.elapsed()),
        1000.0,
        Unit::Milliseconds,
    );
    Ok(())
}

/// A gigabyte of lines from one service: what PID 1 and logd work for it.
///
/// Processor time, not the time on the wall: the service needs more of it than logd, and shares processors with it.
fn flood(stage: &Stage, table: &mut Table) -> Result<()> {
    let line = "0123456789".repeat(8);
    let script = format!(
        "yes {line} | head -c {FLOOD}; exec {} 100000",
        stage.idle().display()
    );
    let running = stage.start_ours(&format!(
        "[[service]]\nname = \"a\"\nuser = \"root\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
    ))?;
    let through = clock::poll(LIMIT, Duration::from_millis(5), || {
        running.idle_children().pop()
    });
    through.context("wait for the end of the flood")?;
    let keeper = running.children("logd").pop().context("find logd")?;
    table.add(
        "init: processor time of logd for 1 GB of lines",
        worked_ms(keeper)?,
        FLOOD as f64 / GOKRAZY_RATE * 1000.0,
        Unit::Milliseconds,
    );
    table.add(
        "init: processor time of PID 1 for that",
        worked_ms(running.first)?,
        50.0,
        Unit::Milliseconds,
    );
    Ok(())
}

/// Processor time of a process so far (`schedstat`, sched-stats in the kernel's documentation).
fn worked_ms(process: u32) -> Result<f64> {
    let path = format!("{}/{process}/schedstat", paths::PROC);
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let nanoseconds = text
        .split(' ')
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    Ok(nanoseconds.with_context(|| format!("understand {path}"))? / 1e6)
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    let number = i32::try_from(process).context("a process id")?;
    kill(Pid::from_raw(number), signal).with_context(|| format!("send {signal} to {process}"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
