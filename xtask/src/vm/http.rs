//! A client of the device's page, for tests and for `cargo xtask run`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// The page of one device.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    base: String,
    password: Option<String>,
}

/// What a device answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Page {
    /// The page at `base` (`http://address[:port]`), asked with `password` or without one.
    pub(crate) fn new(base: impl Into<String>, password: Option<&str>) -> Self {
        Self {
            base: base.into(),
            password: password.map(str::to_owned),
        }
    }

    /// Gets `path` in the form that `accept` names.
    ///
    /// # Errors
    /// No answer came; a refusal is an answer.
    pub(crate) fn get(&self, path: &str, accept: &str, limit: Duration) -> Result<Answer> {
        let mut request = agent(limit)
            .get(format!("{}{path}", self.base))
            .header("Accept", accept);
        if let Some(password) = &self.password {
            request = request.header("Authorization", basic(password));
        }
        let response = request
            .call()
            .with_context(|| format!("get {}{path}", self.base))?;
        answer(response)
    }

    /// Posts `body` to `path`, as a program and not as a browser.
    ///
    /// # Errors
    /// No answer came; a refusal is an answer.
    pub(crate) fn post(&self, path: &str, body: &str, limit: Duration) -> Result<Answer> {
        let mut request = agent(limit).post(format!("{}{path}", self.base));
        if let Some(password) = &self.password {
            request = request.header("Authorization", basic(password));
        }
        let response = request
            .send(body)
            .with_context(|| format!("post {}{path}", self.base))?;
        answer(response)
    }

    /// Gets `path` as JSON.
    ///
    /// # Errors
    /// No answer came, or another status than 200, or no JSON.
    pub(crate) fn json(&self, path: &str, limit: Duration) -> Result<Value> {
        let answer = self.get(path, "application/json", limit)?;
        anyhow::ensure!(
            answer.status == 200,
            "{path}: status {}: {}",
            answer.status,
            answer.body
        );
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{path}: read JSON in {}", answer.body))
    }
}

fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let body = response
        .body_mut()
        .read_to_string()
        .context("read the answer's body")?;
    Ok(Answer {
        status: response.status().as_u16(),
        body,
    })
}

/// The header's value for the one user there is (RFC 7617).
fn basic(password: &str) -> String {
    format!("Basic {}", base64(format!("gokrazy:{password}").as_bytes()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |group, at| {
            group << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for place in 0..4 {
            let sextet = group >> (18 - 6 * place) & 63;
            let filled = place <= chunk.len();
            text.push(match ALPHABET.get(sextet) {
                Some(letter) if filled => char::from(*letter),
                _ => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
