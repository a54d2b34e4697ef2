//! The other boards' images, started by real UEFI firmware.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Steps;
use super::lab::{Lab, text};
use super::pi::{ends_and_starts_anew, network_and_clock, page_wants_a_password};
use super::trouble;
use crate::vm::guest::Guest;

pub(super) fn boots_and_reboots(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let (guest, first) = comes_up(lab, steps)?;
    ends_and_starts_anew(lab, guest, &first, steps).map(drop)
}

/// The same, with trouble between the boots.
pub(super) fn boots_stumbles_and_reboots(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let (mut guest, first) = comes_up(lab, steps)?;
    trouble::web_killed(lab, &mut guest, steps)?;
    trouble::cable_pulled(lab, &mut guest, steps)?;
    ends_and_starts_anew(lab, guest, &first, steps).map(drop)
}

/// Page, network and clock are there; with the first status.
fn comes_up(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<(Guest, Value)> {
    let mut guest = lab.power_on()?;
    page_wants_a_password(lab, &mut guest, steps)?;
    let first = lab.status()?;
    ensure!(
        !text(&first, "Model").is_empty(),
        "it does not know its model"
    );
    steps.passed("it names its model");
    network_and_clock(lab, &mut guest, steps)?;
    Ok((guest, first))
}
