//! What people plug into a machine that runs.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Steps;
use super::lab::{Lab, text};
use crate::vm::ext4;
use crate::vm::guest::Ending;
use crate::vm::qemu::late_card;

/// How long a machine may take to the words that tell of its stage 2.
const LIMIT: Duration = Duration::from_secs(300);

/// A USB adapter that comes when the machine has long been up gets its lease, and the console tells where the page is.
/// Its /perm has noted an error once, and is used all the same.
pub(super) fn late_adapter(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    ext4::mark_as_damaged(lab.disk())?;
    let mut guest = lab.power_on_without_card()?;
    guest.console().wait_for("gokrazy: build", LIMIT)?;
    lab.ask_monitor("device_add", &late_card())?;
    lab.first_answer(&mut guest)?;
    steps.passed("a USB adapter that comes later gets its lease");
    guest
        .console()
        .wait_for("gokrazy: the page is at http://10.67.75.77/", LIMIT)?;
    steps.passed("the console tells where the page is");
    let status = lab.status()?;
    ensure!(
        status.get("PermProblem").is_none_or(Value::is_null)
            && text(&status, "PermErrors").contains("marked as damaged"),
        "of a damaged /perm it says: {status}"
    );
    guest.console().wait_for("/perm is in use, but", LIMIT)?;
    ensure!(
        lab.owner()?.body.contains("/perm has errors"),
        "the page does not tell of damage"
    );
    steps.passed("a /perm that noted errors is used, and console, status and page tell");
    lab.end_by(guest, "/poweroff", Ending::PowerOff).map(drop)
}
