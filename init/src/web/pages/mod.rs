//! Pages for people.
//!
//! Markup is maud's: it is checked when the program is built and escapes whatever is put in, so no value of a
//! service, a server or a client can become markup.
//! Pages work without scripts; `live.js` refreshes what bears `data-live` while the page is visible.

mod overview;
mod service;
mod words;

use axum::response::Html;
use gokrazy_core::control::End;
use maud::{DOCTYPE, Markup, html};

pub use overview::overview;
pub use service::service;

use crate::web::snapshot::{Service, Snapshot};

/// Where the page of a service is.
pub fn service_link(service: &Service) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("path", &service.status.name);
    format!("/status?{}", query.finish())
}

/// The machine's name, or ours.
fn host(snapshot: &Snapshot) -> &str {
    match snapshot.names.host.as_str() {
        "" => "gokrazy",
        host => host,
    }
}

/// The frame of every page; `path` leads from the overview to where we are.
fn shell(title: &str, path: &[(&str, &str)], content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/style.css";
                script src="/assets/live.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to content" }
                header.bar {
                    nav aria-label="Where we are" {
                        a.home href="/" {
                            img src="/assets/icon.svg" alt="" width="28" height="28";
                            span { (path.first().map_or(title, |(name, _)| name)) }
                        }
                        @for (name, target) in path.iter().skip(1) {
                            span.sep aria-hidden="true" { "/" }
                            a href=(target) { (name) }
                        }
                    }
                    span.pulse #pulse role="status" {}
                }
                main #content { (content) }
            }
        }
    };
    Html(page.into_string())
}

/// What is shown while the machine goes down; the script returns to the overview once it is back.
pub fn going_down(how: End) -> Html<String> {
    let (title, hint) = match how {
        End::Reboot => (
            "Rebooting",
            "This page returns by itself when the device is back.",
        ),
        End::PowerOff => (
            "Powering off",
            "Cut the power once the activity light is still.",
        ),
        End::Halt => ("Halting", "The device stays on, with nothing running."),
    };
    let content = html! {
        section.card.wait data-wait=[(how == End::Reboot).then_some("")] {
            h1 { (title) }
            p { "Services are being stopped and data is being written. " (hint) }
        }
    };
    shell(title, &[], &content)
}
