//! How soon ntp knows the time once there is a route, and how steady it keeps a clock of 50 ppm error over a link of
//! 5 ms ± 1 ms, with chrony beside it.
//!
//! `ntp/benches/start.rs` and `ntp/benches/steadiness.rs` measure, with clock calls taken by a stand-in; here their
//! numbers are read.

use std::process::Command;

use anyhow::{Context, Result};

use super::table::{Table, Unit};
use crate::out::say;
use crate::process;
use crate::workspace::Workspace;

/// Budget from the default route to synchronisation, with four servers, in milliseconds.
const START: f64 = 1_000.0;

/// Budget of the 95th percentile, in milliseconds.
const STEADY: f64 = 1.0;

/// Budget in relation to chrony.
const BESIDE_CHRONY: f64 = 1.5;

pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    let start = milliseconds(&run(workspace, "start")?, "ntp_start_us")?;
    table.add(
        "ntp: from the default route to synchronised",
        start,
        START,
        Unit::Milliseconds,
    );
    say!("ntp and chrony keep a clock each for half an hour");
    let text = run(workspace, "steadiness")?;
    let ours = milliseconds(&text, "ntp_p95_us")?;
    let theirs = milliseconds(&text, "chrony_p95_us")?;
    let what = "ntp: error of the clock, 95th percentile";
    table.add(
        what,
        ours,
        STEADY.min(BESIDE_CHRONY * theirs),
        Unit::Milliseconds,
    );
    table.note("the same, chrony", theirs, Unit::Milliseconds);
    Ok(())
}

/// What a measurement of ntp's prints.
fn run(workspace: &Workspace, bench: &str) -> Result<String> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "-q", "-p", "gokrazy-ntp", "--bench", bench])
        .current_dir(workspace.root());
    let output = process::capture(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The value of `key` in the test's output, which is in microseconds.
fn milliseconds(text: &str, key: &str) -> Result<f64> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .find(|(name, _)| name.ends_with(key))
        .and_then(|(_, value)| value.parse::<f64>().ok())
        .map(|microseconds| microseconds / 1e3)
        .with_context(|| format!("the measurement printed no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_found_among_other_lines() {
        let text = "\nrunning 1 test\nntp_p95_us=232\nchrony_p95_us=282\n.\n";
        assert_eq!(milliseconds(text, "ntp_p95_us").ok(), Some(0.232));
        assert_eq!(milliseconds(text, "chrony_p95_us").ok(), Some(0.282));
        assert!(milliseconds(text, "other").is_err());
    }
}
