//! An NTP client for machines without a clock battery: right from the first second, hard to lie to, small.
//!
//! | module | pure | what |
//! |---|---|---|
//! | [`args`] | yes | command line to settings |
//! | [`wall`] | yes | civil time, NTP timestamps and their eras |
//! | [`packet`] | yes | request, reply, every check of a reply |
//! | [`filter`], [`queueing`] | yes | one server's recent samples |
//! | [`select`], [`votes`] | yes | who tells the truth |
//! | [`server`], [`names`], [`pool`], [`poll`] | yes | who is asked when |
//! | [`discipline`] | yes | what the oscillator does, and the correction |
//! | [`limits`] | yes | when the clock may be set, and to what |
//! | [`report`] | yes | what is claimed of the clock |
//! | [`machine`], [`action`] | yes | all of these: events in, actions out |
//! | [`clocks`], [`hardware`] | | the machine's clocks |
//! | [`wire`], [`resolve`], [`watch`] | | sockets, lookups, routes and leases |
//! | [`store`], [`lock`], [`log`] | | the files, one daemon for them, and the operator |
//! | [`start`] | | the clock's floor, the frequency, the servers |
//! | [`daemon`] | | the loop: wait, ask the machine, obey |
//! | [`query`] | | `--query` |
//!
//! Nothing here waits for another daemon: leases are read if they are there, and the state is published for whoever
//! wants it.

pub mod action;
pub mod args;
pub mod chance;
pub mod clocks;
pub mod daemon;
pub mod discipline;
pub mod filter;
pub mod hardware;
pub mod limits;
pub mod lock;
pub mod log;
pub mod machine;
pub mod names;
pub mod packet;
pub mod poll;
pub mod pool;
pub mod query;
pub mod queueing;
pub mod report;
pub mod resolve;
pub mod select;
pub mod server;
pub mod start;
pub mod store;
pub mod trusted;
pub mod votes;
pub mod wall;
pub mod watch;
pub mod wire;

use anyhow::Result;

use args::{Args, Task};

/// Does what the command line asks for.
///
/// # Errors
/// A query that failed, or a daemon that could not start.
pub fn run(args: Args) -> Result<()> {
    match args.task() {
        Task::Query(server) => query::query(&server),
        Task::Keep(config) => daemon::keep(&config),
    }
}
