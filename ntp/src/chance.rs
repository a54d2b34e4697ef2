//! Where chance is drawn; everything else is handed it.
//!
//! No tests of its own: there is nothing to expect of it.

use anyhow::{Result, anyhow};

/// A number that nobody can guess.
///
/// # Errors
/// The errno of `getrandom(2)`.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell is where chance is drawn"
)]
pub fn nonce() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("draw a random number: {error}"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A number from 0 to 1; without chance, the middle.
pub fn chance() -> f64 {
    nonce().map_or(0.5, |number| (number >> 11) as f64 / (1_u64 << 53) as f64)
}
