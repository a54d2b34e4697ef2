//! Time from PID 1 to the first answer of the page, in emulated machines.
//!
//! Both moments are on the guest's own clock: the kernel's stamp at which it starts stage 1, and the uptime that the
//! page's first answer tells; so that answer includes the check of the password, slow on purpose.
//! What counts is a clock that goes by the guest's own instructions: 2 ns each, the processors taking turns, so that one
//! boot is as the next on any host. Waits count in full, caches and a card's slowness do not.
//! QEMU's usual guest clock is the host's: the host's load, and emulation itself, stretch what the guest does and not its
//! clock. One image has taken 1.8 s and 4 s within an hour; the least of some boots is noted beside.
//! The host knows the guest's hardware address beforehand and tries to connect every few milliseconds: asking for it by
//! ARP, and the kernel's own tries again, are a second apart, which would be measured as boot.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::table::{Table, Unit};
use crate::clock;
use crate::image::{self, Built};
use crate::run::board;
use crate::setup::{self, Purpose};
use crate::vm::console::{Echo, stamp};
use crate::vm::disk::Disk;
use crate::vm::guest::{Guest, Setting};
use crate::vm::http::Page;
use crate::vm::lan::{self, GUEST, Lan, Plug, TAP};
use crate::vm::qemu::{Card, Clock, Machine, Net};
use crate::workspace::Workspace;

/// Machines, and the budget of each in milliseconds.
const MACHINES: [(Machine, &str, f64); 2] = [
    (Machine::Virt, "virt", 1500.0),
    (Machine::Raspi3b, "raspi3b", 6000.0),
];

/// Boots of each machine; the first one makes `/perm` its own size.
const BOOTS: usize = 3;

/// Bytes of the card that the image is flashed to.
const CARD: u64 = 2 << 30;

/// Longest boot on the host's clock.
const LIMIT: Duration = Duration::from_secs(300);

/// How often the page is asked for, and how long one try may take; the error of the measurement.
const PAUSE: Duration = Duration::from_millis(10);
const TRY: Duration = Duration::from_millis(40);

pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    for purpose in [Purpose::Image, Purpose::Run, Purpose::Test] {
        setup::ensure(workspace, purpose)?;
    }
    let lan = Lan::new(&workspace.target().join("vm/bench-lan"), Plug::Tap)?;
    lan.introduce_guest()?;
    for (machine, name, budget) in MACHINES {
        let arguments = image::Arguments {
            config: None,
            board: Some(board(machine)),
            kernel: None,
            output: None,
        };
        let image = image::build(workspace, &arguments)?;
        let what = format!("boot: {name}, PID 1 to page");
        let times = boots(workspace, &lan, machine, &image)?;
        table.note(
            format!("{what}, the very first, by the host's clock"),
            times.first,
            Unit::Milliseconds,
        );
        table.note(
            format!("{what}, by the host's clock"),
            times.later,
            Unit::Milliseconds,
        );
        table.add(
            format!("{what} (emulated)"),
            times.by_instructions,
            budget,
            Unit::Milliseconds,
        );
    }
    Ok(())
}

/// Guest milliseconds from PID 1 to page.
struct Times {
    /// Of the first boot, by the host's clock.
    first: f64,
    /// The least of the boots after it.
    later: f64,
    /// Of one that took 2 ns an instruction.
    by_instructions: f64,
}

fn boots(workspace: &Workspace, lan: &Lan, machine: Machine, image: &Built) -> Result<Times> {
    let folder = workspace.target().join("vm/bench");
    let mut setting = Setting {
        machine,
        disk: Disk::flash(&image.path, &folder.join("disk.img"), machine, CARD)?,
        faults: None,
        folder,
        net: Net::Tap {
            name: TAP.to_owned(),
        },
        namespace: Some(lan.namespace().to_owned()),
        clock: Clock::Host,
        card: Card::BuiltIn,
        echo: Echo::Hidden,
    };
    let page = Page::new(format!("http://{GUEST}"), Some(&image.password));
    let first = one_boot(&setting, lan, &page)?;
    let later = (1..BOOTS).map(|_| one_boot(&setting, lan, &page));
    let later = later.collect::<Result<Vec<f64>>>()?;
    setting.clock = Clock::Instructions;
    Ok(Times {
        first,
        later: later.into_iter().fold(f64::INFINITY, f64::min),
        by_instructions: one_boot(&setting, lan, &page)?,
    })
}

fn one_boot(setting: &Setting, lan: &Lan, page: &Page) -> Result<f64> {
    let mut guest = Guest::power_on(setting)?;
    let address = lan::page_address()?;
    let listens = || TcpStream::connect_timeout(&address, TRY).ok();
    let status: Value = lan.inside(|| {
        let listening = clock::poll(LIMIT, PAUSE, listens);
        listening.context("a page that listens")?;
        page.json("/", Duration::from_secs(30))
    })?;
    let up = status
        .get("UptimeMS")
        .and_then(Value::as_f64)
        .context("the uptime in the page's answer")?;
    let line = guest
        .console()
        .wait_for("Run /init as init process", Duration::from_secs(1))?;
    let start = stamp(&line).with_context(|| format!("a time in `{line}`"))?;
    lan.inside(|| page.post("/poweroff", "", Duration::from_secs(10)))?;
    guest.wait_for_end(Duration::from_secs(120))?;
    Ok(up - start.as_secs_f64() * 1000.0)
}
