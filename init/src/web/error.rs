//! Why a request is not met, and the only place that knows statuses; pure.
//!
//! What a client reads names the thing and the way out, and nothing of our insides.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use gokrazy_core::control;

use super::origin::CrossSite;

/// A request turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No password, or a wrong one.
    Unauthorized,
    /// The device has no password, so none is right.
    NoPassword,
    /// Too many guesses wait from the same source.
    TooManyAttempts,
    /// A page of another site may be behind it.
    CrossSite(CrossSite),
    /// gokrazy's token was given and is not the cookie's.
    WrongToken,
    /// Nothing is there; the text says what was looked for.
    NotFound(String),
    /// A parameter is missing or wrong; the text says which.
    BadRequest(String),
    /// The body is longer than this many bytes.
    TooLarge(usize),
    /// The body did not come in time.
    TooSlow,
    /// No room for what was sent.
    NoSpace,
    /// Known, and not offered in this version; the text says more.
    NotImplemented(&'static str),
    /// Too many clients follow logs.
    Busy(&'static str),
    /// init refuses.
    Init(control::Refusal),
    /// init cannot be asked; the text says why.
    InitUnreachable(String),
    /// Something of ours failed; the text says what.
    Internal(String),
}

impl Refusal {
    /// The status code (RFC 9110 §15).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized | Self::NoPassword => StatusCode::UNAUTHORIZED,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::CrossSite(_) | Self::WrongToken => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy(_) | Self::InitUnreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Init(refusal) => match refusal {
                control::Refusal::NoSuchService => StatusCode::NOT_FOUND,
                control::Refusal::NotPermitted => StatusCode::FORBIDDEN,
                control::Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
                control::Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
                control::Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client reads: one line without its break.
    pub fn text(&self) -> String {
        match self {
            Self::Unauthorized => {
                "the user is `gokrazy`, the password the one of this image".to_owned()
            }
            Self::NoPassword => {
                "this device has no web password, so nobody gets in over the network".to_owned()
            }
            Self::TooManyAttempts => {
                "too many wrong passwords from your address; wait a little".to_owned()
            }
            Self::CrossSite(header) => format!(
                "refused, since the request may come from another site's page ({})",
                match header {
                    CrossSite::FetchMetadata => "Sec-Fetch-Site",
                    CrossSite::Origin => "Origin",
                    CrossSite::Referer => "Referer",
                }
            ),
            Self::WrongToken => {
                "`xsrftoken` is not the value of the cookie `gokrazy_xsrf`".to_owned()
            }
            Self::NotFound(what) => format!("{what} not found"),
            Self::TooLarge(limit) => format!("the body is longer than {limit} bytes"),
            Self::TooSlow => "the body did not come in time".to_owned(),
            Self::NoSpace => "no space left for the upload".to_owned(),
            Self::Busy(why) | Self::NotImplemented(why) => (*why).to_owned(),
            Self::Init(refusal) => refusal.to_string(),
            Self::InitUnreachable(why) => format!("ask init: {why}"),
            Self::BadRequest(why) | Self::Internal(why) => why.clone(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let mut response = (status, plain, format!("{}\n", self.text())).into_response();
        let extra = match self {
            Self::Unauthorized | Self::NoPassword => Some((
                header::WWW_AUTHENTICATE,
                r#"Basic realm="gokrazy", charset="UTF-8""#,
            )),
            Self::TooManyAttempts => Some((header::RETRY_AFTER, "2")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response
                .headers_mut()
                .insert(name, header::HeaderValue::from_static(value));
        }
        response
    }
}
