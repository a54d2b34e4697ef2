//! gokrazy's token against forged requests for `/stop` and `/restart`, and other numbers nobody can guess.
//!
//! `/status` hands the token out as the cookie `gokrazy_xsrf`, and its clients send it back as `xsrftoken`.
//! A client may leave it out, since [`super::origin`] is asked in any case; one that is sent must be right.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::error::Refusal;
use super::password::{KEY_LENGTH, keyed};

/// The cookie's name.
const COOKIE: &str = "gokrazy_xsrf";

/// A source of numbers derived from a random key, each different.
pub struct Numbers {
    key: [u8; KEY_LENGTH],
    drawn: AtomicU64,
}

impl Numbers {
    /// Numbers that nobody can guess who does not know `key`.
    pub fn new(key: [u8; KEY_LENGTH]) -> Self {
        Self {
            key,
            drawn: AtomicU64::new(0),
        }
    }

    /// The next one.
    pub fn draw(&self) -> u64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        let digest = keyed(&self.key, &[b"number", &count.to_be_bytes()]);
        let first = digest.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(first)
    }

    /// A token as gokrazy's clients expect it: decimal, from 1 to 2³¹-1.
    fn token(&self) -> u64 {
        (self.draw() >> 33).max(1)
    }
}

/// The token that the client has, or a new one for it to keep, and the header that says so.
pub fn issue(headers: &HeaderMap, numbers: &Numbers) -> String {
    let token = of_cookie(headers).unwrap_or_else(|| numbers.token());
    // Not `Secure`: the page is served over plain HTTP on a home network.
    format!("{COOKIE}={token}; Max-Age=86400; HttpOnly; SameSite=Strict")
}

/// Compares a token that was sent, if one was, with the cookie.
///
/// # Errors
/// It is no number, or not the cookie's.
pub fn check(sent: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(text) = sent else {
        return Ok(());
    };
    let token =
        number(text).ok_or_else(|| Refusal::BadRequest("`xsrftoken` is not a token".to_owned()))?;
    match of_cookie(headers) {
        Some(cookie) if bool::from(cookie.ct_eq(&token)) => Ok(()),
        Some(_) | None => Err(Refusal::WrongToken),
    }
}

fn of_cookie(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .and_then(number)
}

fn number(text: &str) -> Option<u64> {
    let number = text.trim().parse().ok()?;
    (1..=i32::MAX.unsigned_abs().into())
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn a_cookie_is_kept_and_a_bad_one_replaced() {
        let numbers = Numbers::new([1; KEY_LENGTH]);
        let kept = issue(&with_cookie("a=b; gokrazy_xsrf=77"), &numbers);
        assert!(kept.starts_with("gokrazy_xsrf=77; "), "{kept}");
        for bad in [
            "gokrazy_xsrf=0",
            "gokrazy_xsrf=x",
            "gokrazy_xsrf=2147483648",
            "xgokrazy_xsrf=5",
        ] {
            let fresh = issue(&with_cookie(bad), &numbers);
            let value = fresh.split([';', '=']).nth(1).unwrap();
            assert!(number(value).is_some() && value != "5", "{fresh}");
        }
    }

    #[test]
    fn a_token_that_is_sent_must_be_right() {
        let headers = with_cookie("gokrazy_xsrf=77");
        assert_eq!(check(None, &headers), Ok(()));
        assert_eq!(check(Some("77"), &headers), Ok(()));
        assert_eq!(check(Some("78"), &headers), Err(Refusal::WrongToken));
        assert_eq!(
            check(Some("77"), &HeaderMap::new()),
            Err(Refusal::WrongToken)
        );
        assert!(matches!(
            check(Some("0"), &headers),
            Err(Refusal::BadRequest(_))
        ));
    }

    #[test]
    fn no_two_numbers_are_alike() {
        let numbers = Numbers::new([1; KEY_LENGTH]);
        let mut drawn: Vec<_> = (0..1000).map(|_| numbers.draw()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
    }
}
