//! Two slots, and a table that chooses: what breaks one leaves the other.

use anyhow::{Result, bail};

use super::Steps;
use super::lab::Lab;

pub(super) fn broken_root(_: &Lab<'_>, _: &mut Steps<'_>) -> Result<()> {
    bail!("not there yet")
}

pub(super) fn no_table(_: &Lab<'_>, _: &mut Steps<'_>) -> Result<()> {
    bail!("not there yet")
}
