//! The first thing that must work: the Pi's image on a Pi 3B, once from the factory and once again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use gokrazy_core::layout::{SECTOR_BYTES, perm_sectors};
use gokrazy_core::users::{AUTO_FIRST, AUTO_LAST};
use serde_json::Value;

use super::lab::{Lab, service, text};
use super::{Steps, console};
use crate::vm::ext4;
use crate::vm::guest::{Ending, Guest};
use crate::vm::lan::{GUEST, LEASE_SECONDS, PREFIX_LENGTH, SERVER};

/// How far the guest's clock may be from its server's, in milliseconds.
const CLOCK_TOLERANCE: f64 = 100.0;

/// How narrow a look at the guest's clock must be to say anything, in milliseconds.
const WIDEST_WINDOW: f64 = 100.0;

/// How often the clocks are compared at most, until one answer is quick enough.
const COMPARISONS: usize = 300;

pub(super) fn boots_and_reboots(lab: &Lab<'_>, steps: &mut Steps<'_>) -> Result<()> {
    let mut guest = lab.power_on()?;
    page_wants_a_password(lab, &mut guest, steps)?;
    let first = lab.status()?;
    ensure!(
        text(&first, "Model") == "Raspberry Pi 3 Model B",
        "the model is {}",
        text(&first, "Model")
    );
    steps.passed("it names its model");
    network_and_clock(lab, &mut guest, steps)?;
    hello_runs(lab, &mut guest, steps)?;
    let seeds = ends_and_starts_anew(lab, guest, &first, steps)?;
    ensure!(!seeds.is_empty(), "randomd has kept no seed");
    Ok(())
}

/// 401 without a password and with a wrong one, 200 with the right one.
pub(super) fn page_wants_a_password(
    lab: &Lab<'_>,
    guest: &mut Guest,
    steps: &mut Steps<'_>,
) -> Result<()> {
    let stranger = lab.first_answer(guest)?;
    ensure!(
        stranger.status == 401,
        "the page without a password: status {}",
        stranger.status
    );
    let wrong = lab.ask_with("not the password")?;
    ensure!(
        wrong.status == 401,
        "the page with a wrong password: status {}",
        wrong.status
    );
    let owner = lab.owner()?;
    ensure!(
        owner.status == 200,
        "the page: status {}: {}",
        owner.status,
        owner.body
    );
    ensure!(
        owner.body.contains("<html"),
        "the page is no HTML: {}",
        owner.body
    );
    steps.passed("the page wants its password");
    Ok(())
}

/// The lease and the route are what the server gave, and the clock is the server's.
pub(super) fn network_and_clock(
    lab: &Lab<'_>,
    guest: &mut Guest,
    steps: &mut Steps<'_>,
) -> Result<()> {
    let status = lab.status_where(guest, "there is a lease", |status| lease(status).is_some())?;
    let lease = lease(&status).context("a lease")?;
    let list = |field: &str| lease.get(field).cloned().unwrap_or_default();
    ensure!(
        text(lease, "Address") == format!("{GUEST}/{PREFIX_LENGTH}"),
        "the lease is {lease}"
    );
    ensure!(
        list("Routers") == Value::from(vec![SERVER]),
        "the lease's routers: {lease}"
    );
    ensure!(
        list("DNS") == Value::from(vec![SERVER]),
        "the lease's name servers: {lease}"
    );
    ensure!(
        list("NTP") == Value::from(vec![SERVER]),
        "the lease's time servers: {lease}"
    );
    ensure!(
        text(lease, "Server") == SERVER,
        "the lease's server: {lease}"
    );
    let number = |field: &str| lease.get(field).and_then(Value::as_u64).unwrap_or_default();
    let length = number("ExpiresAt").saturating_sub(number("AcquiredAt"));
    ensure!(
        length == LEASE_SECONDS,
        "the lease holds {length} s, not {LEASE_SECONDS}"
    );
    ensure!(
        lab.lan()
            .log_of("dnsmasq")
            .contains(&format!("DHCPACK(tap0) {GUEST}")),
        "the server knows of no lease"
    );
    steps.passed("the lease is what the server gave");
    lab.lan().reaches_by_default_route()?;
    steps.passed("the default route is what the server gave");
    let synchronised =
        |status: &Value| status.pointer("/Clock/Synchronised") == Some(&Value::Bool(true));
    let status = lab.status_where(guest, "the clock is synchronised", synchronised)?;
    let source = status
        .pointer("/Clock/Source")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(source.starts_with(SERVER), "the clock's source is {source}");
    let (offset, window) = compare_clocks(lab)?;
    ensure!(
        offset.abs() <= CLOCK_TOLERANCE,
        "the clock is off by {offset} ms (± {} ms)",
        window / 2.0
    );
    steps.passed(&format!(
        "the clock is right (off by {offset:.0} ms, seen through ± {:.0} ms)",
        window / 2.0
    ));
    Ok(())
}

fn lease(status: &Value) -> Option<&Value> {
    status.get("Leases")?.as_array()?.first()
}

/// The guest's clock less ours, which is the server's, and how long the question took, at most [`WIDEST_WINDOW`]; in
/// milliseconds.
fn compare_clocks(lab: &Lab<'_>) -> Result<(f64, f64)> {
    let mut narrowest = f64::INFINITY;
    for _ in 0..COMPARISONS {
        let before = crate::clock::unix_milliseconds();
        let status = lab.status()?;
        let after = crate::clock::unix_milliseconds();
        let theirs = status
            .get("NowMS")
            .and_then(Value::as_f64)
            .context("the guest's time")?;
        let window = after - before;
        if window <= WIDEST_WINDOW {
            return Ok((theirs - (before + after) / 2.0, window));
        }
        narrowest = narrowest.min(window);
    }
    bail!(
        "the guest's clock was never seen in {WIDEST_WINDOW} ms; the quickest answer took {narrowest} ms"
    )
}

fn hello_runs(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let runs = |status: &Value| {
        service(status, "hello").is_some_and(|hello| text(hello, "State") == "running")
    };
    let status = lab.status_where(guest, "hello runs", runs)?;
    let uid = service(&status, "hello")
        .and_then(|hello| hello.get("UID"))
        .and_then(Value::as_u64);
    let own = uid.is_some_and(|uid| (u64::from(AUTO_FIRST)..=u64::from(AUTO_LAST)).contains(&uid));
    ensure!(own, "hello runs as user {uid:?}");
    steps.passed("hello runs under a user of its own");
    Ok(())
}

/// A reboot by the API: the identity stays, the boot and the seed are new, the data has grown to the card.
pub(super) fn ends_and_starts_anew(
    lab: &Lab<'_>,
    guest: Guest,
    first: &Value,
    steps: &mut Steps<'_>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let lines = lab.end_by(guest, "/reboot", Ending::Reboot)?;
    console::is_clean(&lines)?;
    steps.passed("the console tells of no trouble");
    let seeds = seeds(lab)?;
    perm_has_grown(lab)?;
    steps.passed("/perm has grown to the card, and is whole");
    let mut guest = lab.power_on()?;
    lab.first_answer(&mut guest)?;
    let second = lab.status()?;
    ensure!(
        text(&second, "MachineID").len() == 32,
        "the machine id is {}",
        text(&second, "MachineID")
    );
    ensure!(
        text(first, "MachineID") == text(&second, "MachineID"),
        "the machine id changed over a reboot"
    );
    ensure!(
        text(first, "BootID") != text(&second, "BootID"),
        "the boot id stayed over a reboot"
    );
    ensure!(
        first.get("FirstBoot") == Some(&Value::Bool(true)),
        "the first boot was none: {first}"
    );
    ensure!(
        second.get("FirstBoot") == Some(&Value::Bool(false)),
        "the second boot was a first one: {second}"
    );
    steps.passed("it starts anew by the API, as the same machine in another boot");
    let lines = lab.end_by(guest, "/poweroff", Ending::PowerOff)?;
    console::is_clean(&lines)?;
    let later = self::seeds(lab)?;
    ensure!(!seeds.is_empty(), "randomd kept no seed");
    ensure!(
        later
            .iter()
            .all(|(name, seed)| seeds.get(name) != Some(seed)),
        "a seed was kept over a reboot"
    );
    steps.passed("it switches itself off by the API, and its seed is new");
    seed_comes_first(&lines)?;
    steps.passed("the seed went in before the machine id and the services");
    Ok(later)
}

/// The kept seed is mixed before anything draws from the pool: init tells of the machine id, and starts the services
/// after that.
fn seed_comes_first(lines: &[String]) -> Result<()> {
    let at = |words: &str| lines.iter().position(|line| line.contains(words));
    let seed = at("seed.credit: mixed").context("randomd's word of the seed on the console")?;
    let id = at(", machine ").context("init's word of the machine id on the console")?;
    let word = lines.get(seed).map_or("", String::as_str);
    ensure!(
        seed < id,
        "the seed went in after the machine id was there: {word}"
    );
    // Whose it is was known, though the machine id was not made by then: it is credited, or would be if there were need.
    ensure!(
        word.contains("mixed and credited") || word.contains("initialised already"),
        "the machine's own seed was not taken for that: {word}"
    );
    Ok(())
}

/// The seeds on the disk, by name.
fn seeds(lab: &Lab<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = ext4::names(lab.disk(), "/random")?;
    names
        .into_iter()
        .map(|name| {
            Ok((
                name.clone(),
                ext4::read(lab.disk(), &format!("/random/{name}"))?,
            ))
        })
        .collect()
}

fn perm_has_grown(lab: &Lab<'_>) -> Result<()> {
    let want = perm_sectors(lab.disk().bytes()? / SECTOR_BYTES)
        .context("a disk with room for /perm")?
        * SECTOR_BYTES;
    let have = ext4::bytes(lab.disk())?;
    ensure!(
        have == want,
        "/perm holds {have} bytes, and the card has room for {want}"
    );
    ext4::check(lab.disk())
}
