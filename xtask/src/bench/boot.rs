//! Time from PID 1 to the first answer of the page, in emulated machines.
//!
//! Both moments are on the guest's own clock: the kernel's stamp at which it starts stage 1, and the uptime that the
//! page's first answer tells; so that answer includes the check of the password, slow on purpose.
//! QEMU's guest clock is the host's: the host's load, and emulation itself, stretch what the guest does and not its
//! clock, so the least of some boots counts, on a host that does nothing else.
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
use crate::vm::qemu::{Card, Machine, Net};
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
        let times = boots(workspace, &lan, machine, &image)?;
        let (first, later) = times.split_first().context("a boot")?;
        table.note(
            format!("boot: {name}, PID 1 to page, the very first"),
            *first,
            Unit::Milliseconds,
        );
        let best = later.iter().copied().fold(f64::INFINITY, f64::min);
        table.add(
            format!("boot: {name}, PID 1 to page (emulated)"),
            best,
            budget,
            Unit::Milliseconds,
        );
    }
    Ok(())
}

/// Guest milliseconds from PID 1 to page, of each boot.
fn boots(workspace: &Workspace, lan: &Lan, machine: Machine, image: &Built) -> Result<Vec<f64>> {
    let folder = workspace.target().join("vm/bench");
    let setting = Setting {
        machine,
        disk: Disk::flash(&image.path, &folder.join("disk.img"), machine, CARD)?,
        faults: None,
        folder,
        net: Net::Tap {
            name: TAP.to_owned(),
        },
        namespace: Some(lan.namespace().to_owned()),
        clock: None,
        card: Card::BuiltIn,
        echo: Echo::Hidden,
    };
    let page = Page::new(format!("http://{GUEST}"), Some(&image.password));
    (0..BOOTS).map(|_| one_boot(&setting, lan, &page)).collect()
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
