//! Parameters of a request, from its query and from a form in its body, as gokrazy's clients send either.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::LengthLimitError;

use super::error::Refusal;

/// Longest body that is held in memory.
pub const MAX_BODY: usize = 64 * 1024;
/// A body must be complete in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Names and values in the order of their coming, those of the query first.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// From urlencoded text.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first value of `name`.
    ///
    /// # Errors
    /// It is missing or empty.
    pub fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        match self.get(name) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) | None => Err(Refusal::BadRequest(format!(
                "parameter `{name}` is missing"
            ))),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let mut params = Self::parse(request.uri().query().unwrap_or_default().as_bytes());
        if content_type(request.headers()).starts_with("application/x-www-form-urlencoded") {
            let body = body(request.into_body()).await?;
            params.0.extend(Self::parse(&body).0);
        }
        Ok(params)
    }
}

/// The whole of a small body.
///
/// # Errors
/// It is too long, is cut short or framed wrongly, or does not come in time.
pub async fn body(body: Body) -> Result<Vec<u8>, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_too_long(&error) => Err(Refusal::TooLarge(MAX_BODY)),
        Ok(Err(_)) => Err(Refusal::BadRequest(
            "the body was cut short, or is not framed as its head says".to_owned(),
        )),
        Err(_elapsed) => Err(Refusal::TooSlow),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<LengthLimitError>())
}

/// The body's type in lower case; empty if none is given.
pub fn content_type(headers: &HeaderMap) -> String {
    text(headers, header::CONTENT_TYPE)
}

/// What a client wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page.
    Html,
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    Events,
}

/// What the headers ask for, by gokrazy's rule: JSON if `Accept` or `Content-Type` names it anywhere.
pub fn format(headers: &HeaderMap) -> Format {
    let accept = text(headers, header::ACCEPT);
    if accept.contains("application/json") || content_type(headers).contains("application/json") {
        Format::Json
    } else if accept.contains("text/event-stream") {
        Format::Events
    } else {
        Format::Html
    }
}

/// Whether the client is a browser that wants to show what it gets.
pub fn wants_page(headers: &HeaderMap) -> bool {
    text(headers, header::ACCEPT).contains("text/html")
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts() {
        let params = Params::parse(b"path=%2Fuser%2Fhello&path=x&empty=&a+b=c%20d");
        assert_eq!(params.get("path"), Some("/user/hello"));
        assert_eq!(params.get("a b"), Some("c d"));
        assert!(params.required("empty").is_err());
        assert!(params.required("absent").is_err());
    }

    #[test]
    fn formats_as_gokrazy_chooses_them() {
        let check = |name: header::HeaderName, value: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(format(&headers), expected, "{value}");
        };
        check(header::ACCEPT, "text/html,*/*;q=0.8", Format::Html);
        check(header::ACCEPT, "Application/JSON", Format::Json);
        check(
            header::CONTENT_TYPE,
            "application/json; charset=utf-8",
            Format::Json,
        );
        check(header::ACCEPT, "text/event-stream", Format::Events);
        assert_eq!(format(&HeaderMap::new()), Format::Html);
    }
}
