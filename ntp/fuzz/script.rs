//! Bytes as what arrives as a reply, and what the rest of the client relies on.
//!
//! The fuzz target and the test of the kept corpus judge by the same rules.

use gokrazy_ntp::filter::Sample;
use gokrazy_ntp::packet::{Exchange, MAX_DELAY, MAX_ROOT_DISTANCE, Refusal, Span, read};
use gokrazy_ntp::wall::{Mono, Wall};

/// Reads a reply as the daemon does, and panics if what comes of it is more than the packet's checks promise.
///
/// # Errors
/// The packet is refused, which is as good.
pub(crate) fn play(bytes: &[u8]) -> Result<Sample, Refusal> {
    let span = Span {
        floor: Wall::from_seconds(1_767_225_600),
        ceiling: Wall::from_seconds(1_767_225_600 + 20 * 365 * 86_400),
    };
    let sent = Wall::from_seconds(1_795_000_000);
    let exchange = Exchange {
        sent,
        received: sent.shifted(5_000_000),
        at: Mono::from_secs(1),
    };
    // The number that a server would repeat, so that the checks behind it are reached.
    let nonce = bytes
        .get(24..32)
        .and_then(|origin| origin.try_into().ok())
        .map_or(0, u64::from_be_bytes);
    let sample = read(bytes, nonce, span, &exchange)?;
    assert!(sample.root <= MAX_ROOT_DISTANCE);
    assert!(sample.delay <= MAX_DELAY.unsigned_abs());
    assert!((1..=15).contains(&sample.stratum));
    let then = sent.shifted(sample.offset);
    assert!(then >= span.floor.shifted(-MAX_DELAY) && then <= span.ceiling.shifted(MAX_DELAY));
    Ok(sample)
}
