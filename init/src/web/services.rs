//! `/status`, `/stop` and `/restart` as gokrazy's clients use them.
//!
//! `supervise=once` is accepted and restarts like any restart: what becomes of a service after its end is its
//! `restart` setting's matter.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gokrazy_core::control::Request;

use super::error::Refusal;
use super::params::{Format, Params, format};
use super::router::json;
use super::snapshot::Service;
use super::{App, gokrazy, pages, tokens};

/// `/status`: one service.
pub(super) async fn status(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let service = find(&app, &params)?;
    let cookie = tokens::issue(&headers, &app.numbers);
    let mut response = match format(&headers) {
        Format::Json => json(&gokrazy::ServiceStatus::from(&service)),
        Format::Html | Format::Events => page(&app, &service),
    };
    if let Ok(value) = cookie.parse() {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    Ok(response)
}

/// The two headers are read by gokrazy's remote shell, which thereby knows what to upload.
fn page(app: &App, service: &Service) -> Response {
    let stopped = gokrazy::is_stopped(service.status.state);
    let headers = [
        (
            HeaderName::from_static("x-gokrazy-status"),
            if stopped { "stopped" } else { "started" },
        ),
        (HeaderName::from_static("x-gokrazy-goarch"), goarch()),
    ];
    let snapshot = app.snapshot();
    (headers, pages::service(service, &snapshot)).into_response()
}

/// The architecture in Go's words.
fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `POST /stop`; `signal=kill` grants no time to end.
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    tokens::check(params.get("xsrftoken"), &headers)?;
    let kill = match params.get("signal") {
        None | Some("" | "term") => false,
        Some("kill") => true,
        Some(other) => {
            return Err(Refusal::BadRequest(format!(
                "`signal`: {other:?} is neither kill nor term"
            )));
        }
    };
    let service = find(&app, &params)?;
    let name = service.status.name.clone();
    app.ask(Request::Stop { name: name.clone() }).await?;
    if kill {
        let signal = "KILL".to_owned();
        // It may be gone already, which is what was asked for.
        let _ = app.ask(Request::Signal { name, signal }).await;
    }
    Ok(back_to(&service))
}

/// `POST /restart`.
pub(super) async fn restart(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    tokens::check(params.get("xsrftoken"), &headers)?;
    let service = find(&app, &params)?;
    let name = service.status.name.clone();
    app.ask(Request::Restart { name }).await?;
    Ok(back_to(&service))
}

fn find(app: &App, params: &Params) -> Result<Service, Refusal> {
    let path = params.required("path")?;
    app.sources
        .service(path)
        .ok_or_else(|| Refusal::NotFound(format!("service {path}")))
}

/// A browser then shows the service, and a reload of that page changes nothing.
fn back_to(service: &Service) -> Response {
    let location = pages::service_link(service);
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}
