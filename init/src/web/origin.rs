//! Whether a request that changes something may have been made by a page of another site; pure.
//!
//! A browser that holds the password attaches it to what any site makes it send, so the password alone proves
//! nothing.
//! What proves it, in this order (the Fetch standard, and RFC 6454 §7 for `Origin`):
//! - `Sec-Fetch-Site`, which scripts cannot set; browsers send it to trustworthy origins only, not to plain HTTP;
//! - `Origin`, which every current browser sends with each POST and PUT;
//! - `Referer`, for browsers that send no `Origin` with a form of their own site;
//! - the absence of all three: not a browser.
//!
//! gokrazy's token for `/stop` and `/restart` is checked beside this, never in its place: its cookie is shared
//! with whatever listens on another port of the same host.

use axum::http::{HeaderMap, header};

/// Why a request that changes something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossSite {
    /// `Sec-Fetch-Site` says so.
    FetchMetadata,
    /// `Origin` is another site, or hidden.
    Origin,
    /// `Referer` is a page of another site.
    Referer,
}

/// Looks for proof that the request comes from our own page or from no page at all.
///
/// # Errors
/// The header that speaks against it.
pub fn check(headers: &HeaderMap) -> Result<(), CrossSite> {
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none`: the user's own doing, an address typed or a bookmark.
        let own = site == "same-origin" || site == "none";
        return if own {
            Ok(())
        } else {
            Err(CrossSite::FetchMetadata)
        };
    }
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let is_ours = |value: &[u8]| host.is_some() && authority(value) == host;
    if let Some(origin) = headers.get(header::ORIGIN) {
        return if is_ours(origin.as_bytes()) {
            Ok(())
        } else {
            Err(CrossSite::Origin)
        };
    }
    match headers.get(header::REFERER) {
        Some(referer) if !is_ours(referer.as_bytes()) => Err(CrossSite::Referer),
        Some(_) | None => Ok(()),
    }
}

/// Host and port of an `http` or `https` URL; the scheme may differ from ours behind a proxy that adds TLS.
fn authority(url: &[u8]) -> Option<&[u8]> {
    let rest = url
        .strip_prefix(b"http://")
        .or_else(|| url.strip_prefix(b"https://"))?;
    rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    #[track_caller]
    fn expect(headers: &[(&str, &str)], expected: Result<(), CrossSite>) {
        let mut map = HeaderMap::new();
        map.insert(header::HOST, "pi.local".parse().unwrap());
        for (name, value) in headers {
            map.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        assert_eq!(check(&map), expected, "{headers:?}");
    }

    #[test]
    fn what_is_no_browser_passes() {
        expect(&[], Ok(()));
        expect(&[("user-agent", "gokrazy-updater")], Ok(()));
    }

    #[test]
    fn fetch_metadata_has_the_first_word() {
        expect(&[("sec-fetch-site", "same-origin")], Ok(()));
        expect(&[("sec-fetch-site", "none")], Ok(()));
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            let headers = [("sec-fetch-site", site), ("origin", "http://pi.local")];
            expect(&headers, Err(CrossSite::FetchMetadata));
        }
    }

    #[test]
    fn the_origin_must_be_our_host_and_port() {
        expect(&[("origin", "http://pi.local")], Ok(()));
        expect(&[("origin", "https://pi.local")], Ok(()));
        for origin in [
            "null",
            "http://evil.example",
            "http://pi.local:8080",
            "http://pi.local.evil.example",
            "http://evil.example/pi.local",
            "http://pi.local@evil.example",
            "pi.local",
            "",
        ] {
            expect(&[("origin", origin)], Err(CrossSite::Origin));
        }
    }

    #[test]
    fn the_referer_counts_where_no_origin_is_sent() {
        expect(&[("referer", "http://pi.local/status?path=x")], Ok(()));
        expect(
            &[("referer", "http://evil.example/")],
            Err(CrossSite::Referer),
        );
        let both = [
            ("origin", "http://pi.local"),
            ("referer", "http://evil.example/"),
        ];
        expect(&both, Ok(()));
    }
}
