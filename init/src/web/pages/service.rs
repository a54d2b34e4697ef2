//! The page of one service: its state, what can be done about it, and its output.

use axum::response::Html;
use gokrazy_core::service_status::State;
use maud::{Markup, html};

use super::overview::{badge, memory};
use super::words::{moment, since};
use super::{host, service_link, shell};
use crate::web::snapshot::{Service, Snapshot};

/// The page at `/status`.
pub fn service(service: &Service, snapshot: &Snapshot) -> Html<String> {
    let status = &service.status;
    let link = service_link(service);
    let content = html! {
        section.card {
            div.head {
                h1 { (status.name) }
                div.buttons { (actions(service)) }
            }
            dl #service data-live {
                dt { "State" }
                dd {
                    (badge(status.state))
                    @if let Some(span) = since(status.since_ms, snapshot.uptime) { " " span.sub.inline { "for " (span) } }
                }
                @if let Some(text) = &status.status_text { dt { "It says" } dd { (text) } }
                @if let Some(conditions) = &status.waiting_for { dt { "Waits for" } dd { code { (conditions) } } }
                dt { "Command" } dd { code { (status.command) } }
                @if let Some(program) = &status.diverted {
                    dt { "Diverted" } dd.warn { code { (program) } " until the next boot" }
                }
                @if let Some(start) = service.started_at() { dt { "Started" } dd { (moment(start)) } }
                dt { "Restarts" } dd { (status.restarts) }
                @if let Some(exit) = &status.last_exit { dt { "Last exit" } dd { (exit) } }
                @if let Some(pid) = status.pid { dt { "Process" } dd { (pid) } }
                @if let Some(uid) = status.uid { dt { "User id" } dd { (uid) } }
                dt { "Memory" } dd { (memory(service)) }
                @if status.critical { dt { "Critical" } dd { "an update is confirmed only while this is well" } }
                @if let Some(fences) = &status.unfenced { dt { "Not fenced" } dd.warn { (fences) } }
            }
        }
        (history(service, snapshot))
        (output(service))
    };
    let path = [(host(snapshot), "/"), (&*status.name, &*link)];
    shell(
        &format!("{} – {}", status.name, host(snapshot)),
        &path,
        &content,
    )
}

/// The last changes of state, newest first.
fn history(service: &Service, snapshot: &Snapshot) -> Markup {
    let changes = &service.status.history;
    html! {
        section.card #history data-live hidden[changes.is_empty()] {
            h2 { "History" }
            ol.history {
                @for change in changes.iter().rev() {
                    li {
                        (badge(change.state)) " " (change.why)
                        @if let Some(span) = since(change.at_ms, snapshot.uptime) { " " span.sub.inline { (span) " ago" } }
                    }
                }
            }
        }
    }
}

/// What makes sense in the state that it is in.
pub(super) fn actions(service: &Service) -> Markup {
    let status = &service.status;
    let rests = matches!(status.state, State::Stopped | State::Finished);
    html! {
        form method="post" action="/restart" {
            input type="hidden" name="path" value=(status.name);
            button type="submit" aria-label={ (if rests { "Start " } else { "Restart " }) (status.name) } {
                (if rests { "Start" } else { "Restart" })
            }
        }
        @if !rests {
            form method="post" action="/stop" {
                input type="hidden" name="path" value=(status.name);
                button type="submit" data-confirm=(question(&status.name)) aria-label={ "Stop " (status.name) } {
                    "Stop"
                }
            }
        }
    }
}

fn question(name: &str) -> String {
    let warning = match name {
        "web" => " This page is then gone until the next boot.",
        "dhcp" => " The device may then lose its address.",
        _ => "",
    };
    format!("Stop {name}?{warning}")
}

fn output(service: &Service) -> Markup {
    let name = &service.status.name;
    let query = |stream: &str| {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        pairs
            .append_pair("path", name)
            .append_pair("stream", stream);
        format!("/log?{}", pairs.finish())
    };
    html! {
        section.card aria-labelledby="log-title" {
            div.head {
                h2 #log-title { "Output" }
                p.sub.inline {
                    a href=(query("stdout")) { "stdout" } " · " a href=(query("stderr")) { "stderr" } " as text"
                }
            }
            pre.log #log tabindex="0" role="log" aria-labelledby="log-title" data-follow=(query("both")) {}
        }
    }
}
