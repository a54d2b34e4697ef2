//! The overview: the machine, its network, its clock, its stores and its services.

use std::time::Duration;

use axum::response::Html;
use gokrazy_core::addresses::Addresses;
use gokrazy_core::lease::Lease;
use gokrazy_core::service_status::State;
use maud::{Markup, html};

use super::service::actions;
use super::words::{moment, offset, percent, since, size, span};
use super::{host, service_link, shell};
use crate::web::machine::Storage;
use crate::web::snapshot::{Service, Snapshot};

/// The page at `/`.
pub fn overview(snapshot: &Snapshot) -> Html<String> {
    let host = host(snapshot);
    let content = html! {
        (alerts(snapshot))
        (services(snapshot))
        div.grid {
            (device(snapshot))
            (network(snapshot))
            (clock(snapshot))
            (stores(snapshot))
        }
        (power())
    };
    shell(host, &[(host, "/")], &content)
}

/// What an operator must not miss, first.
fn alerts(snapshot: &Snapshot) -> Markup {
    let boot = snapshot.boot.as_ref();
    let perm = boot.and_then(|boot| boot.perm_problem.as_deref());
    let fallback = boot.and_then(|boot| boot.fallback.as_deref());
    html! {
        div.alerts #alerts data-live {
            @if let Some(why) = perm {
                p.alert.bad role="alert" {
                    strong { "/perm is temporary. " }
                    "What is stored there now is lost with the next boot; the card's own data was left untouched. "
                    span.why { (why) }
                }
            }
            @if let Some(why) = boot.and_then(|boot| boot.perm_errors.as_deref()) {
                p.alert.bad role="alert" { strong { "/perm has errors. " } span.why { (why) } }
            }
            @if snapshot.perm.as_ref().is_some_and(is_read_only) {
                p.alert.bad role="alert" {
                    strong { "/perm is read-only. " }
                    "Its file system met an error, and nothing can be stored any more. "
                    "Keep a copy of what matters, and let e2fsck repair it on another machine."
                }
            }
            @if let Some(why) = fallback {
                p.alert.bad role="alert" {
                    strong { "Not the version that was to boot. " }
                    "The slot that was meant could not be started at once. "
                    span.why { (why) }
                }
            }
            @if let Some(attempt) = boot.and_then(|boot| boot.attempt) {
                p.alert { strong { "On trial. " } "This version has not been confirmed yet (attempt " (attempt) ")." }
            }
            @for problem in &snapshot.problems {
                p.alert { strong { "Unreadable: " } span.why { (problem) } }
            }
        }
    }
}

/// Without a mount of its own it is a folder of the root, which is read-only on purpose.
fn is_read_only(perm: &Storage) -> bool {
    perm.read_only && !perm.device.is_empty()
}

fn services(snapshot: &Snapshot) -> Markup {
    html! {
        section.card aria-labelledby="services-title" {
            h2 #services-title { "Services" }
            @if snapshot.services.is_empty() {
                p.none #services data-live { "init publishes no services here." }
            } @else {
                table.services #services data-live {
                    thead {
                        tr {
                            th scope="col" { "Service" }
                            th scope="col" { "State" }
                            th.num scope="col" { "Restarts" }
                            th.num scope="col" { "Memory" }
                            th scope="col" { "Last exit" }
                            th scope="col" { span.hidden { "Actions" } }
                        }
                    }
                    tbody {
                        @for service in &snapshot.services { (row(service, snapshot.uptime)) }
                    }
                }
            }
        }
    }
}

fn row(service: &Service, uptime: Option<Duration>) -> Markup {
    let status = &service.status;
    html! {
        tr {
            th scope="row" {
                a.name href=(service_link(service)) { (status.name) }
                span.sub { (service.program()) }
                @if let Some(line) = &service.last_line { span.last { (shortened(line)) } }
                @if let Some(program) = &status.diverted { span.sub.warn { "diverted to " (program) } }
            }
            td data-label="State" {
                div {
                    (badge(status.state))
                    @if let Some(span) = since(status.since_ms, uptime) { " " span.sub.inline { "for " (span) } }
                    @if let Some(text) = &status.status_text { span.sub { (text) } }
                    @if let Some(conditions) = &status.waiting_for { span.sub { "waits for " (conditions) } }
                }
            }
            td.num data-label="Restarts" { (status.restarts) }
            td.num data-label="Memory" { (memory(service)) }
            td.quiet[status.last_exit.is_none()] data-label="Last exit" { (status.last_exit.as_deref().unwrap_or("–")) }
            td.actions { (actions(service)) }
        }
    }
}

pub(super) fn memory(service: &Service) -> Markup {
    html! {
        @match service.memory {
            None => { "–" }
            Some(memory) => {
                @match memory.proportional {
                    Some(share) => { span title="proportional set size" { (size(share)) } }
                    None => { span title="resident set size" { (size(memory.resident)) } }
                }
            }
        }
    }
}

/// The state as a word, with a colour beside it for those who see it.
pub(super) fn badge(state: State) -> Markup {
    let tone = match state {
        State::Running | State::Reloading | State::Finished => "good",
        State::Stopped => "calm",
        State::Waiting | State::Starting | State::Stopping | State::Restarting => "busy",
        State::CrashLoop => "bad",
    };
    let word = match state {
        State::CrashLoop => "crash loop",
        other => other.as_str(),
    };
    html! { span.badge.(tone) { (word) } }
}

fn device(snapshot: &Snapshot) -> Markup {
    let boot = snapshot.boot.as_ref();
    html! {
        section.card #device data-live {
            h2 { "Device" }
            dl {
                @if !snapshot.model.is_empty() { dt { "Model" } dd { (snapshot.model) } }
                @if let Some(boot) = boot {
                    dt { "Build" } dd { code { (boot.build_id) } }
                }
                @if let Some(built) = snapshot.built { dt { "Built" } dd { (moment(built)) } }
                @if let Some(slot) = boot.and_then(|boot| boot.slot) { dt { "Slot" } dd { (slot) } }
                dt { "Kernel" } dd { (snapshot.names.kernel) }
                @if let Some(uptime) = snapshot.uptime { dt { "Up for" } dd { (span(uptime)) } }
                @if let Some(load) = &snapshot.load { dt { "Load" } dd { (load) } }
                @if let Some(boot) = boot {
                    dt { "Machine id" } dd { code { (boot.machine_id) } }
                }
            }
        }
    }
}

fn network(snapshot: &Snapshot) -> Markup {
    let silent = Addresses::default();
    let addresses = snapshot.addresses.as_ref().unwrap_or(&silent);
    html! {
        section.card #network data-live {
            h2 { "Network" }
            @for name in &addresses.no_carrier { (no_cable(name)) }
            @for lease in &snapshot.leases { (interface(lease, snapshot.uptime)) }
            dl {
                dt { "Private" } dd { (list(&addresses.private)) }
                @if !addresses.public.is_empty() {
                    dt { "Public" } dd { (list(&addresses.public)) " " span.sub.inline { "(not served)" } }
                }
            }
        }
    }
}

fn no_cable(interface: &str) -> Markup {
    // Plain, not an alert: a second port that nobody uses is no trouble.
    html! { p.sub { (interface) ": no cable, or what is at its other end is off" } }
}

fn interface(lease: &Lease, uptime: Option<Duration>) -> Markup {
    let until = |at: Option<u64>| {
        let left = Duration::from_secs(at?).checked_sub(uptime?)?;
        Some(span(left))
    };
    html! {
        h3 { (lease.interface) " " span.sub.inline { (lease.method) } }
        dl {
            @if let Some(ipv4) = &lease.ipv4 {
                dt { "Address" } dd { code { (ipv4.address) "/" (ipv4.prefix) } }
                @if !ipv4.routers.is_empty() { dt { "Router" } dd { (list(&ipv4.routers)) } }
                @if !ipv4.dns.is_empty() { dt { "DNS" } dd { (list(&ipv4.dns)) } }
                @if let Some(domain) = &ipv4.domain { dt { "Domain" } dd { (domain) } }
            }
            @if !lease.addresses6.is_empty() { dt { "IPv6" } dd { (list(&lease.addresses6)) } }
            @if !lease.dns6.is_empty() { dt { "IPv6 DNS" } dd { (list(&lease.dns6)) } }
            @if let Some(end) = until(lease.expires_at) {
                dt { "Lease" }
                dd {
                    "ends in " (end)
                    @if let Some(renewal) = until(lease.renew_at) { ", renewed in " (renewal) }
                }
            }
        }
    }
}

/// The beginning of a line, for a table.
fn shortened(line: &str) -> String {
    const MOST: usize = 160;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> Markup {
    html! {
        @if items.is_empty() { "–" }
        ul.inline { @for item in items { li { code { (item) } } } }
    }
}

fn clock(snapshot: &Snapshot) -> Markup {
    html! {
        section.card #clock data-live {
            h2 { "Clock" }
            dl {
                dt { "Now" } dd { (moment(snapshot.now)) }
                dt { "State" }
                @match &snapshot.clock {
                    None => { dd { span.badge.busy { "unknown" } " " span.sub.inline { "nobody vouches for it" } } }
                    Some(clock) if !clock.synchronised => { dd { span.badge.busy { "not synchronised" } } }
                    Some(clock) => {
                        dd { span.badge.good { "synchronised" } }
                        @if let Some(source) = &clock.source {
                            dt { "Source" }
                            dd {
                                code { (source) }
                                @if let Some(stratum) = clock.stratum { " " span.sub.inline { "stratum " (stratum) } }
                            }
                        }
                        @if let Some(ns) = clock.offset_ns { dt { "Offset" } dd { (offset(ns)) } }
                    }
                }
            }
        }
    }
}

fn stores(snapshot: &Snapshot) -> Markup {
    let memory = snapshot.memory;
    let used = memory.total.saturating_sub(memory.available);
    html! {
        section.card #stores data-live {
            h2 { "Memory and storage" }
            @if memory.total > 0 { (gauge("Memory", used, memory.available, memory.total)) }
            @if let Some(perm) = &snapshot.perm { (store(perm)) }
            @for mount in &snapshot.mounts { (store(mount)) }
        }
    }
}

fn store(storage: &Storage) -> Markup {
    html! {
        (gauge(&storage.target, storage.used, storage.available, storage.total))
        @if !storage.device.is_empty() { p.sub { code { (storage.device) } } }
    }
}

fn gauge(name: &str, used: u64, available: u64, total: u64) -> Markup {
    // As df(1) counts: what is kept back for root is neither used nor free.
    let share = percent(used, used.saturating_add(available));
    html! {
        p.gauge {
            span { (name) }
            span.sub.inline { (size(available)) " of " (size(total)) " free" }
            meter min="0" max="100" low="70" high="90" optimum="0" value=(share) aria-label=(name) { (share) " %" }
        }
    }
}

fn power() -> Markup {
    html! {
        details.card.power {
            summary { "Power" }
            div.buttons {
                form method="post" action="/reboot" {
                    button type="submit" data-confirm="Reboot this device?" { "Reboot" }
                }
                form method="post" action="/poweroff" {
                    button.danger type="submit" data-confirm="Power off this device? It comes back when its power is cut and restored." {
                        "Power off"
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_for_root_makes_a_disk_no_emptier() {
        let html = gauge("perm", 30, 10, 100).into_string();
        assert!(html.contains("value=\"75\""), "{html}");
    }
}
