//! `cargo xtask bench`: what the budgets speak of, measured here and now, beside the budget.
//!
//! Measurements are printed and never asserted: a loaded machine must not fail a test.
//! How each was taken stands in its own module's first lines.

mod boot;
mod dhcp;
mod dhcp_stand;
mod init;
mod ntp;
mod rest;
mod size;
mod stand;
mod table;

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::stand::Stand;
use self::table::Table;
use crate::out::say;
use crate::workspace::Workspace;

/// What `bench` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to measure; without it everything that takes minutes at most.
    #[arg(value_enum, value_name = "SUBJECT")]
    subjects: Vec<Subject>,
}

/// Something that has a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Bytes of programs and partitions.
    Size,
    /// Time from init's start to its page and to a lease, in namespaces of this machine. Needs root.
    Start,
    /// Memory, processor time and context switches at rest, in namespaces of this machine. Needs root, two minutes.
    #[value(alias = "memory", alias = "idle")]
    Rest,
    /// Time from PID 1 to the page, in emulated machines, by the guest's own clock. Needs root.
    Boot,
    /// dhcp beside udhcpc, dhcpcd and dhclient: time to an address, size, memory, wake-ups, a flood. Needs root.
    Dhcp,
    /// init beside s6, runit, finit and BusyBox init: starts, memory, restarts, orphans, floods. Needs root.
    Init,
    /// How soon ntp knows the time, and how steady it keeps it beside chrony; half an hour, so only when it is named.
    /// Needs root and chrony.
    Ntp,
}

impl Subject {
    /// Measured when none is named.
    const ALL: [Self; 5] = [Self::Size, Self::Start, Self::Rest, Self::Init, Self::Boot];

    fn measure(self, workspace: &Workspace, table: &mut Table) -> Result<()> {
        match self {
            Self::Size => size::measure(workspace, table),
            Self::Start => rest::start(&Stand::new(workspace)?, table),
            Self::Rest => rest::rest(&Stand::new(workspace)?, table),
            Self::Boot => boot::measure(workspace, table),
            Self::Dhcp => dhcp::measure(workspace, table),
            Self::Init => init::measure(workspace, table),
            Self::Ntp => ntp::measure(workspace, table),
        }
    }
}

/// Measures what was asked for, and prints the table at the end.
///
/// # Errors
/// What could not be measured; what was measured before is printed all the same.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut table = Table::default();
    let subjects = if arguments.subjects.is_empty() {
        Subject::ALL.to_vec()
    } else {
        arguments.subjects.clone()
    };
    let outcomes: Vec<Result<()>> = subjects
        .into_iter()
        .map(|subject| subject.measure(workspace, &mut table))
        .collect();
    say!("\n{}", table.render());
    outcomes.into_iter().collect()
}
