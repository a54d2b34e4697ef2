//! How often servers are asked: as seldom as the oscillator allows; pure.

use crate::discipline::Discipline;
use crate::server::{MAX_POLL, MIN_POLL};

/// Expected error at the next poll above which the interval does not grow, in seconds.
const TOLERABLE: f64 = 150e-6;

/// Good samples of each server before the interval doubles.
const STEADY: usize = 8;

/// The interval of common rounds.
#[derive(Debug)]
pub struct Poll {
    exponent: u8,
    /// Good samples since the interval was last changed.
    steady: usize,
}

impl Poll {
    /// The shortest.
    pub fn new() -> Self {
        Self {
            exponent: MIN_POLL,
            steady: 0,
        }
    }

    /// The interval as a power of two of seconds.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }

    /// A good sample came, with a deviation of `sigma` nanoseconds, by one of `servers` servers.
    ///
    /// Where samples are noisy, a smaller error than a quarter of that noise is not worth a shorter interval.
    pub fn adapt(&mut self, discipline: &Discipline, sigma: f64, servers: usize) {
        let limit = TOLERABLE.max(sigma.min(10e6) / 4e9);
        let error_at = |exponent: u8| discipline.predicted(f64::from(1_u32 << exponent));
        if error_at(self.exponent) > 2.0 * limit {
            self.exponent = (self.exponent - 1).max(MIN_POLL);
            self.steady = 0;
            return;
        }
        self.steady += 1;
        let patient = self.steady >= STEADY * servers.max(1);
        if patient && self.exponent < MAX_POLL && error_at(self.exponent + 1) < limit {
            self.exponent += 1;
            self.steady = 0;
        }
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self::new()
    }
}

// No tests of its own: `tests/simulation.rs` holds intervals against errors over days.
