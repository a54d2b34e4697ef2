//! `/reboot` and `/poweroff`: parameters as gokrazy's clients send them, done by init.
//!
//! `kexec` and `async` are accepted and change nothing: we always restart through the firmware, and init has the
//! services stopped before the machine goes down, while the answer is sent at once.
//! `wait_per_signal` is checked and otherwise left to each service's own `stop-timeout`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use gokrazy_core::control::{End, Request};

use super::App;
use super::error::Refusal;
use super::pages;
use super::params::{Params, wants_page};

/// `POST /reboot`.
pub(super) async fn reboot(
    app: State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    end(&app, &headers, &params, End::Reboot).await
}

/// `POST /poweroff`.
pub(super) async fn power_off(
    app: State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    end(&app, &headers, &params, End::PowerOff).await
}

async fn end(
    app: &Arc<App>,
    headers: &HeaderMap,
    params: &Params,
    how: End,
) -> Result<Response, Refusal> {
    if let Some(text) = params.get("wait_per_signal")
        && !is_go_duration(text)
    {
        let why = format!("`wait_per_signal`: {text:?} is not a duration like 15s or 1m30s");
        return Err(Refusal::BadRequest(why));
    }
    app.ask(Request::End { how }).await?;
    if wants_page(headers) {
        return Ok(pages::going_down(how).into_response());
    }
    let text = match how {
        End::Reboot => "rebooting...\n",
        End::PowerOff => "powering off...\n",
        End::Halt => "halting...\n",
    };
    Ok(text.into_response())
}

/// What Go's `time.ParseDuration` takes: `15s`, `1m30s`, `1.5h`, `500ms`, `0`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.strip_suffix(unit).unwrap_or_default();
        let digits = number.bytes().any(|byte| byte.is_ascii_digit());
        if !digits || number.matches('.').count() > 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(after) = units.iter().find_map(|name| unit.strip_prefix(name)) else {
            return false;
        };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for good in [
            "0",
            "15s",
            "1m30s",
            "500ms",
            "1.5h",
            "-3s",
            "+2us",
            "1h2m3s4ms5us6ns",
            ".5s",
            "5.s",
        ] {
            assert!(is_go_duration(good), "{good}");
        }
        for bad in ["", "15", "s", ".s", "1.2.3s", "15 s", "15sec", "1d", "-"] {
            assert!(!is_go_duration(bad), "{bad}");
        }
    }
}
