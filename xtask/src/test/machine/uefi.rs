//! The other boards' images, started by real UEFI firmware.

use anyhow::{Result, ensure};

use super::Steps;
use super::lab::{Lab, text};
use super::pi::{ends_and_starts_anew, network_and_clock, page_wants_a_password};

pub(super) fn boots_and_reboots(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let mut guest = lab.power_on()?;
    page_wants_a_password(lab, &mut guest, steps)?;
    let first = lab.status()?;
    ensure!(
        !text(&first, "Model").is_empty(),
        "it does not know its model"
    );
    steps.passed("it names its model");
    network_and_clock(lab, &mut guest, steps)?;
    ends_and_starts_anew(lab, guest, &first, steps).map(drop)
}
