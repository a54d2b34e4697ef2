//! What happens to a machine that runs: its cable is pulled out, its web server is killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Steps;
use super::lab::{Lab, service, text};
use crate::clock::Stopwatch;
use crate::vm::guest::Guest;
use crate::vm::lan::GUEST;

/// How long a page may take that cannot be reached, until that is taken for granted; the guest sees meanwhile that the
/// cable is gone.
const SILENCE: Duration = Duration::from_secs(3);

/// How long web may be away on a loaded host; init waits a quarter of a second.
const BACK: Duration = Duration::from_secs(60);

/// A cable that is pulled out and put back: the page is back, the lease was asked for anew, and dhcp's log tells why.
pub(super) fn cable_pulled(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let plug = |up: bool| {
        lab.ask_monitor("set_link", &json!({ "name": "card0", "up": up }))
            .with_context(|| format!("set the cable to {up}"))
    };
    let granted = || {
        let words = format!("DHCPACK(tap0) {GUEST}");
        lab.lan().log_of("dnsmasq").matches(&words).count()
    };
    let before = granted();
    plug(false)?;
    ensure!(
        lab.is_silent(SILENCE),
        "the page answers through a cable that is pulled out"
    );
    guest.console().wait_for(": no carrier: its cable", BACK)?;
    plug(true)?;
    lab.first_answer(guest)?;
    guest.console().wait_for(": its carrier is back", BACK)?;
    steps.passed("with its cable pulled out and put back, the page is back, and the console tells");
    let log = lab.until_logged(guest, "dhcp", "carrier lost")?;
    lab.status_where(guest, "the lease is asked for anew", |_| granted() > before)
        .with_context(|| format!("dhcp said\n{log}"))?;
    steps.passed("the lease was asked for anew, and dhcp's log tells why");
    Ok(())
}

/// A web server that is killed is back at once as another process, and nobody else notices.
pub(super) fn web_killed(lab: &Lab<'_>, guest: &mut Guest, steps: &mut Steps<'_>) -> Result<()> {
    let before = lab.status()?;
    let killed = lab.service("web")?;
    let watch = Stopwatch::start();
    // Who kills the server may get no answer of it.
    let _ = lab.post("/api/v1/services/web/signal", r#"{"signal":"KILL"}"#);
    let another = |web: &Value| web.get("pid") != killed.get("pid");
    let back = lab.until(guest, BACK, "web is back after SIGKILL", || {
        lab.service("web").ok().filter(another)
    })?;
    let away = watch.elapsed();
    ensure!(
        text(&back, "last_exit") == "signal 9 (KILL)",
        "web's last exit: {back}"
    );
    let after = lab.status()?;
    let process = |status: &Value, name: &str| {
        let service = service(status, name)?;
        service
            .get("Pid")
            .and_then(Value::as_u64)
            .filter(|pid| *pid > 0)
    };
    for name in ["hello", "dhcp", "ntp", "randomd"] {
        let (then, now) = (process(&before, name), process(&after, name));
        ensure!(
            then.is_some() && then == now,
            "{name} was process {then:?}, and is {now:?}"
        );
    }
    ensure!(
        text(&before, "BootID") == text(&after, "BootID"),
        "PID 1 did not outlive web: the machine started anew"
    );
    steps.passed(&format!(
        "web is back {:.1} s after SIGKILL, and nobody else noticed",
        away.as_secs_f64()
    ));
    Ok(())
}
