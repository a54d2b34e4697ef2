//! Routes, and what holds for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};

use super::error::Refusal;
use super::metrics::{self, Own};
use super::params::{Format, format};
use super::{
    App, api, assets, auth, divert, gokrazy, logs, origin, pages, power, services, update,
};

/// Every route, each behind the door.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", any(index))
        .route("/assets/{file}", get(assets::asset))
        .route("/metrics", get(metrics))
        .route("/log", any(logs::log))
        .route("/status", any(services::status))
        .route("/stop", post(services::stop))
        .route("/restart", post(services::restart))
        .route("/uploadtemp/{*path}", put(divert::upload))
        .route("/divert", post(divert::divert))
        .nest("/api/v1", api::routes())
        .route("/reboot", post(power::reboot))
        .route("/poweroff", post(power::power_off))
        .route("/update/features", any(update::features))
        .route("/update/{*rest}", any(update::refuse))
        .fallback(unknown)
        .layer(from_fn(same_origin))
        .layer(from_fn_with_state(app.clone(), auth::require))
        .layer(from_fn(harden))
        .with_state(app)
}

async fn index(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let snapshot = app.snapshot();
    match format(&headers) {
        Format::Json => json(&gokrazy::Status::from(&snapshot)),
        Format::Html | Format::Events => pages::overview(&snapshot).into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let own = Own {
        connections: count(&app.counters.connections),
        requests: count(&app.counters.requests),
        failed_logins: count(&app.counters.failed_logins),
    };
    let text = metrics::render(&app.snapshot(), own);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::NotFound(uri.path().to_owned())
}

/// A JSON answer; its type has no parameter, since gokrazy's client compares the whole value.
pub fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Refusal::Internal(format!("render JSON: {error}")).into_response(),
    }
}

/// Nothing is changed at the wish of another site's page.
async fn same_origin(request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !reads && let Err(why) = origin::check(request.headers()) {
        return Refusal::CrossSite(why).into_response();
    }
    next.run(request).await
}

/// What a browser may do with our pages: load our own files, and be framed by nobody, nor be shown to other sites.
///
/// The referrer policy must not be `no-referrer`: browsers then hide the origin of our own forms (Fetch standard,
/// "append a request `Origin` header").
const HARDENING: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HARDENING {
        headers.entry(name).or_insert(value);
    }
    response
}
