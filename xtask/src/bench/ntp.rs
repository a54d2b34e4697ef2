//! How steady ntp keeps a clock of 50 ppm error over a link of 5 ms ± 1 ms, and chrony beside it.
//!
//! `ntp/benches/steadiness.rs` measures, with the clock calls of both taken by a stand-in; here its numbers are read.

use std::process::Command;

use anyhow::{Context, Result};

use super::table::{Table, Unit};
use crate::out::say;
use crate::process;
use crate::workspace::Workspace;

/// Budget of the 95th percentile, in milliseconds.
const STEADY: f64 = 1.0;

/// Budget in relation to chrony.
const BESIDE_CHRONY: f64 = 1.5;

pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    say!("ntp and chrony keep a clock each for half an hour");
    let mut command = Command::new("cargo");
    command
        .args(["bench", "-q", "-p", "gokrazy-ntp", "--bench", "steadiness"])
        .current_dir(workspace.root());
    let output = process::capture(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
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
