//! The update protocol's place: what this version can do of it, which is to say so.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::Refusal;
use super::params::{Format, format};
use super::router::json;

/// What `GET /update/features` lists, each name with a comma behind it as gokrazy writes it.
///
/// Empty, since nothing can be written yet: a client that needs a feature then tells its user before it sends
/// a hundred megabytes.
const FEATURES: &str = "";

/// `/update/features`, as text or as JSON.
pub(super) async fn features(State(_app): State<Arc<App>>, headers: HeaderMap) -> Response {
    #[derive(serde::Serialize)]
    struct Features {
        features: &'static str,
        #[serde(rename = "EEPROM")]
        eeprom: Option<()>,
    }
    match format(&headers) {
        Format::Json => json(&Features {
            features: FEATURES,
            eeprom: None,
        }),
        Format::Html | Format::Events => (
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            FEATURES,
        )
            .into_response(),
    }
}

/// Every other path below `/update/`.
pub(super) async fn refuse() -> Refusal {
    Refusal::NotImplemented("this version takes no updates over the network: write a new card")
}
