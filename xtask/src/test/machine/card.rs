//! Cards of other sizes than the image expects.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Steps;
use super::lab::Lab;

/// Bytes of a card on which slot B and `/perm` have no room.
const TOO_SMALL: u64 = 1 << 30;

/// How long a machine may take until it looks for its disk.
const LIMIT: Duration = Duration::from_secs(300);

/// An image that was copied to a card that ends before its partitions do: the console says so, and the way out.
pub(super) fn too_small(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    lab.disk().resize(TOO_SMALL)?;
    let guest = lab.power_on()?;
    let line = guest
        .console()
        .wait_for("is too small: it has 1024 MiB", LIMIT)?;
    ensure!(
        line.contains("write the image to a larger card"),
        "the console does not tell the way out: {line}"
    );
    steps.passed("the console tells of it, and the way out");
    Ok(())
}
