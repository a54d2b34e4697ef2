//! The system at rest: memory, processor time and context switches of all our processes, in namespaces of this
//! machine, and how soon it got there.
//!
//! Memory is the proportional set size, so a page that two processes share counts once
//! (`/proc/PID/smaps_rollup`, proc_pid_smaps(5)).

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::paths;

use super::stand::{Running, Stand};
use super::table::{Table, Unit};

use crate::out::say;

/// How long the system is left alone before it counts as at rest.
const SETTLE: Duration = Duration::from_secs(60);

/// How long it is watched then.
const WATCH: Duration = Duration::from_secs(60);

/// Starts of the system; the median counts.
const STARTS: usize = 9;

const MIB: f64 = 1024.0 * 1024.0;

/// Daemons whose share has a budget of its own, in bytes.
const SHARES: [(&str, f64); 2] = [("randomd", 400.0 * 1024.0), ("ntp", MIB)];

/// Time from init's exec to the page and to a lease.
pub(super) fn start(stand: &Stand, table: &mut Table) -> Result<()> {
    let (mut pages, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let running = stand.start()?;
        pages.push(milliseconds(stand.page_after(&running)?));
        leases.push(milliseconds(stand.lease_after(&running)?));
    }
    table.add(
        "start: init to page, in namespaces",
        median(&mut pages),
        25.0,
        Unit::Milliseconds,
    );
    table.add(
        "start: init to lease, in namespaces",
        median(&mut leases),
        150.0,
        Unit::Milliseconds,
    );
    Ok(())
}

/// What all processes together hold and do, once they have come to rest.
pub(super) fn rest(stand: &Stand, table: &mut Table) -> Result<()> {
    let running = stand.start()?;
    stand.lease_after(&running)?;
    say!(
        "at rest: waiting {} s, then watching for {} s",
        SETTLE.as_secs(),
        WATCH.as_secs()
    );
    thread::sleep(SETTLE);
    memory(&running, table)?;
    let before = activity(&running)?;
    thread::sleep(WATCH);
    let after = activity(&running)?;
    ensure!(
        before.processes == after.processes,
        "a process was started or ended at rest"
    );
    let minutes = WATCH.as_secs_f64() / 60.0;
    let cpu = (after.nanoseconds - before.nanoseconds) as f64 / 1e6 / minutes;
    let switches = (after.switches - before.switches) as f64 / WATCH.as_secs_f64();
    table.add(
        "idle: processor time a minute",
        cpu,
        2.0,
        Unit::Milliseconds,
    );
    table.add("idle: context switches", switches, 0.2, Unit::PerSecond);
    Ok(())
}

fn memory(running: &Running, table: &mut Table) -> Result<()> {
    let mut sum = 0.0;
    for id in running.processes() {
        let name = read(id, "comm")?;
        let rollup = read(id, "smaps_rollup")?;
        let share =
            field(&rollup, "Pss:").with_context(|| format!("find Pss of process {id}"))? * 1024.0;
        let what = format!("memory: {}", name.trim());
        match SHARES.iter().find(|(daemon, _)| *daemon == name.trim()) {
            Some((_, budget)) => table.add(&what, share, *budget, Unit::Bytes),
            None => table.note(what, share, Unit::Bytes),
        }
        sum += share;
    }
    table.add(
        "memory: all processes, proportional",
        sum,
        6.0 * MIB,
        Unit::Bytes,
    );
    Ok(())
}

/// What the processes did since they began.
struct Activity {
    processes: Vec<u32>,
    nanoseconds: u64,
    switches: u64,
}

fn activity(running: &Running) -> Result<Activity> {
    let processes = running.processes();
    let mut activity = Activity {
        processes: Vec::new(),
        nanoseconds: 0,
        switches: 0,
    };
    for id in &processes {
        let tasks = format!("{}/{id}/task", paths::PROC);
        for task in fs::read_dir(&tasks)
            .with_context(|| format!("read {tasks}"))?
            .flatten()
        {
            let of = |name: &str| {
                fs::read_to_string(task.path().join(name)).context("read what a thread did")
            };
            // Nanoseconds on a processor, nanoseconds waited for one, slices.
            let on_processor = of("schedstat")?;
            let on_processor = on_processor
                .split(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok());
            activity.nanoseconds += on_processor.context("read schedstat")?;
            let status = of("status")?;
            let count = |name: &str| field(&status, name).unwrap_or(0.0) as u64;
            activity.switches +=
                count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:");
        }
    }
    activity.processes = processes;
    Ok(activity)
}

fn read(process: u32, name: &str) -> Result<String> {
    let path = format!("{}/{process}/{name}", paths::PROC);
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// The number behind `name` at the head of a line.
pub(super) fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t41\nPss:      512 kB\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(41.0));
        assert_eq!(field(status, "Pss:"), Some(512.0));
        assert_eq!(field(status, "Rss:"), None);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
