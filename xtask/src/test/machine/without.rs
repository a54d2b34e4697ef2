//! Machines that lack the daemon by which they are looked at: who types on their console sees what they do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::layout::{ROOT_A, ROOT_B};
use gokrazy_core::slots::{SlotName, SlotState};

use super::Steps;
use super::lab::Lab;
use super::parts;
use super::slots::put_table;
use crate::vm::guest::{Ending, Guest};
use crate::vm::lan::GUEST;

/// hello, and a shell on the console.
pub(super) const CONFIG: &str = r#"
hostname = "without"
emergency-shell = true

[[program]]
package = "hello"

[[service]]
name = "hello"
command = ["/user/hello"]
"#;

/// How long anything may take on a loaded host.
const LIMIT: Duration = Duration::from_secs(300);

/// An image without web gets its address and its time; one without dhcp shows its page to who is inside.
pub(super) fn web_or_dhcp(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    parts::root_without(lab, ROOT_B, &["gokrazy/dhcp"])?;
    parts::root_without(lab, ROOT_A, &["gokrazy/web"])?;
    let granted = || {
        let words = format!("DHCPACK(tap0) {GUEST}");
        lab.lan().log_of("dnsmasq").matches(&words).count()
    };
    let before = granted();
    let guest = at_the_console(lab)?;
    let running = "randomd dhcp ntp hello";
    let and = "grep -q synchronised=yes /run/gokrazy/clock";
    others_run(guest, running, "web", and)?;
    ensure!(granted() > before, "the server knows of no lease");
    steps.passed("without web, the address is there, the clock is right, and all others run");

    put_table(lab.disk(), |table| {
        table
            .with(SlotName::A, SlotState::Bad)
            .with(SlotName::B, SlotState::Good)
    })?;
    let guest = at_the_console(lab)?;
    let running = "randomd web ntp hello";
    let and = "wget -O /dev/null http://127.0.0.1/ 2>&1 | grep -q 401";
    others_run(guest, running, "dhcp", and)?;
    steps.passed("without dhcp, the page is served inside, and all others run");
    Ok(())
}

/// Boots, and opens the shell.
fn at_the_console(lab: &Lab<'_>) -> Result<Guest> {
    let mut guest = lab.power_on()?;
    guest.console().wait_for("gokrazy: build", LIMIT)?;
    guest.type_in("\n")?;
    guest.console().wait_for("runs as root", LIMIT)?;
    Ok(guest)
}

/// Waits until the services `running` run and the command `and` succeeds, sees that `missing` does not run, and switches
/// the machine off.
fn others_run(mut guest: Guest, running: &str, missing: &str, and: &str) -> Result<()> {
    let runs = |name: &str| format!("grep -qx state=running /run/gokrazy/service/{name}");
    // The number is computed there, so that what is typed is not taken for what is said.
    let script = format!(
        "for name in {running}; do until {}; do sleep 1; done; done\n\
         until {and}; do sleep 1; done\n\
         {} || echo others-$((6*7))\n",
        runs("$name"),
        runs(missing)
    );
    guest.type_in(&script)?;
    let told = guest.console().wait_for("others-42", LIMIT);
    told.with_context(|| format!("see {running} run without {missing}"))?;
    guest.type_in("/gokrazy/init ctl poweroff\n")?;
    let ending = guest.wait_for_end(LIMIT)?;
    ensure!(ending == Ending::PowerOff, "it ended by {ending:?}");
    Ok(())
}
