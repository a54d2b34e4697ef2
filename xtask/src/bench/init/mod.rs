//! init as a supervisor, beside s6, runit, finit and BusyBox init from Debian, each as PID 1 of namespaces of its own.
//!
//! Every service is a copy of sleep(1) under a name that nothing else has, so that those which run are counted by name.
//! Memory is the proportional set size of all processes but the services (`smaps_rollup`, proc_pid_smaps(5)).
//! All configuration lies in memory, and the watch starts when a peer's preparations are over.

mod peers;
mod stage;
mod trials;

use anyhow::{Context, Result};

use self::peers::Peer;
use self::stage::Stage;
use super::table::{Table, Unit};
use crate::out::say;
use crate::workspace::Workspace;

/// So many services a device never has.
const MANY: usize = 1000;

/// So many a device has.
const FEW: usize = 10;

const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;

/// Starts and memory of all, then what only we promise.
pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    let stage = Stage::new(workspace)?;
    let mut fastest = f64::INFINITY;
    for peer in Peer::OTHERS {
        match stage.start(peer, MANY) {
            Ok(running) => {
                fastest = fastest.min(running.started_ms);
                let name = peer.name();
                table.note(
                    format!("init: 1000 services, {name}"),
                    running.started_ms,
                    Unit::Milliseconds,
                );
                table.note(
                    format!("init: memory with 1000, {name}"),
                    running.memory()?,
                    Unit::Bytes,
                );
            }
            // One that does not start here leaves the others to compare with.
            Err(error) => say!("{}: {error:#}", peer.name()),
        }
    }
    let running = stage.start(Peer::Ours, MANY)?;
    table.add(
        "init: 1000 services, ours",
        running.started_ms,
        fastest,
        Unit::Milliseconds,
    );
    let memory = running.memory().context("measure init and logd")?;
    table.add(
        "init: memory with 1000, init and logd",
        memory,
        4.0 * MIB,
        Unit::Bytes,
    );
    let awake = trials::wake_ups(&running)?;
    table.add(
        "init: wake-ups of init and logd at rest",
        awake,
        0.0,
        Unit::PerSecond,
    );
    drop(running);
    let running = stage.start(Peer::Ours, FEW)?;
    table.add(
        "init: memory of PID 1 with 10",
        running.memory_of_first()?,
        MIB,
        Unit::Bytes,
    );
    drop(running);
    trials::all(&stage, table)
}
