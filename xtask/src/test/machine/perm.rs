//! The data partition in trouble: broken, or interrupted while it was being made its own size.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Steps;
use super::lab::{Lab, text};
use crate::vm::ext4::{self, PERM_OFFSET};
use crate::vm::guest::Ending;

/// Bytes at the head of the partition that are broken, and must be found as they were left.
const BROKEN: usize = 64 * 1024;

/// A `/perm` that cannot be mounted is never written to, and the machine comes up without it.
pub(super) fn broken(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let garbage: Vec<u8> = (0..BROKEN).map(|at| (at % 251) as u8).collect();
    lab.disk().write(PERM_OFFSET, &garbage)?;
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    ensure!(
        !text(&status, "PermProblem").is_empty(),
        "the status does not tell that /perm is broken: {status}"
    );
    steps.passed("it comes up, and its status tells of it");
    let owner = lab.owner()?;
    ensure!(
        owner.body.contains("/perm"),
        "the page does not tell of /perm"
    );
    guest.console().wait_for("/perm", Duration::from_secs(5))?;
    steps.passed("page and console tell of it");
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    ensure!(
        lab.disk().read(PERM_OFFSET, BROKEN)? == garbage,
        "the broken /perm was written to"
    );
    steps.passed("what was left of it is untouched");
    Ok(())
}

/// The console's words at which the power is cut, early to late.
const MOMENTS: [&str; 3] = ["starting slot", "grew to", "gokrazy: build"];

/// Whenever the power fails in the first boot, the next one comes up with a whole `/perm`.
pub(super) fn power_cut(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    for words in MOMENTS {
        let guest = lab.power_on()?;
        guest.console().wait_for(words, Duration::from_secs(300))?;
        guest.cut_power();
    }
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let status = lab.status()?;
    ensure!(
        status.get("PermProblem").is_none_or(Value::is_null),
        "/perm did not survive: {status}"
    );
    steps.passed("the next boot comes up with its /perm");
    lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    ext4::check(lab.disk())?;
    steps.passed("/perm is whole");
    Ok(())
}
