//! What the oscillator does, and the correction that follows: a two-state Kalman filter in front of the kernel's
//! phase-locked loop; pure.
//!
//! The state is the phase (how far our clock is behind, in seconds) and the rate at which it grows (seconds per
//! second), given the frequency correction in force.
//! After each measurement the whole rate goes into the kernel's frequency and the whole phase into its slew, so both
//! are expected to be zero from then on; what is left is noise and the oscillator's wander.
//!
//! ```text
//! advance(now)           phase grows by the rate, shrinks by what the kernel has slewed
//! measure(offset, sigma) accepted, or a spike; three spikes of one sign in a row are the truth
//! correction()           the kernel's frequency and slew from now on
//! stepped(offset)        the clock was set; phase and slew start again
//! ```
//!
//! The kernel's own frequency loop is off (`STA_FREQHOLD`): it needs hours to learn 50 ppm, this filter minutes.
//! Whom to believe, and whether to step, is not decided here.
//! Tested against a simulated oscillator, by `tests/simulation.rs`.

use crate::filter::Reckoning;
use crate::wall::Mono;

/// Largest frequency correction that the kernel takes: 500 ppm.
const MAX_FREQUENCY: f64 = 500e-6;

/// Largest phase that the kernel slews, in seconds.
const MAX_SLEW: f64 = 0.5;

/// Standard deviation of an oscillator that we know nothing of: 50 ppm.
const UNKNOWN_RATE: f64 = 50e-6;

/// The same with a drift file, at least: temperature may differ from last time, 2 ppm.
pub const LEARNED_RATE: f64 = 2e-6;

/// What a known oscillator may still stray: RFC 5905's PHI, 15 ppm.
const PHI: f64 = 15e-6;

/// Below this deviation of the rate the frequency counts as known, 1 ppm.
const KNOWN_RATE: f64 = 1e-6;

/// Bounds of the wander, a random walk of the rate, in (s/s)² per second: from a good crystal to one in the sun.
const WANDER: (f64, f64) = (1e-17, 1e-14);

/// How the kernel is to steer from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// Frequency correction in seconds per second; positive: run faster.
    pub frequency: f64,
    /// Phase to slew, in nanoseconds; positive: our clock is behind.
    pub slew: i64,
    /// The loop's time constant (see `gokrazy_sys::clock::PllUpdate`).
    pub time_constant: u8,
    /// Estimate of the remaining error, in nanoseconds.
    pub deviation: u64,
}

/// What became of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It moved the estimate; the innovation in units of its expected deviation.
    Accepted(f64),
    /// It was too far from what was expected, and ignored.
    Spike,
    /// It was too far, but for the third time in a row: the estimate is what is wrong.
    Persistent,
}

/// The estimate of the oscillator.
#[derive(Debug, Clone)]
pub struct Discipline {
    at: Mono,
    phase: f64,
    rate: f64,
    /// Covariance: phase, phase with rate, rate.
    p: (f64, f64, f64),
    /// Correction in force, s/s.
    frequency: f64,
    /// The one before, s/s.
    previous: f64,
    /// Correction in force when we started, s/s.
    base: f64,
    /// What the kernel has yet to slew, s.
    slew: f64,
    time_constant: u8,
    corrected: f64,
    steps: i64,
    wander: f64,
    /// Running mean of squared innovations in units of their expectation; 1 if the wander fits.
    surprise: f64,
    /// Spikes in a row, signed by their direction.
    spikes: i8,
}

impl Discipline {
    /// Starts at `now` with the frequency correction in force; `learned` is its deviation as it was when it was kept,
    /// if it was.
    pub fn new(now: Mono, frequency: f64, learned: Option<f64>) -> Self {
        let sigma = learned.map_or(UNKNOWN_RATE, |sigma| {
            sigma.clamp(LEARNED_RATE, UNKNOWN_RATE)
        });
        Self {
            at: now,
            phase: 0.0,
            rate: 0.0,
            p: (1.0, 0.0, sigma * sigma),
            frequency,
            previous: frequency,
            base: frequency,
            slew: 0.0,
            time_constant: 2,
            corrected: 0.0,
            steps: 0,
            wander: 1e-16,
            surprise: 1.0,
            spikes: 0,
        }
    }

    /// What moves our clock, so that samples of different moments compare.
    pub fn reckoning(&self) -> Reckoning {
        Reckoning {
            corrected: self.steps.saturating_add((self.corrected * 1e9) as i64),
            drift: (self.frequency + self.rate - self.base) * 1e9,
            ageing: self.drift_bound() * 1e9,
        }
    }

    /// Expected offset now, in nanoseconds.
    pub fn offset(&self) -> i64 {
        (self.phase * 1e9) as i64
    }

    /// Frequency correction in force, in seconds per second.
    pub fn frequency(&self) -> f64 {
        self.frequency
    }

    /// Whether the frequency is known well enough to be kept for the next start.
    pub fn frequency_is_known(&self) -> bool {
        self.frequency_deviation() < KNOWN_RATE
    }

    /// Deviation of the frequency correction, in seconds per second.
    pub fn frequency_deviation(&self) -> f64 {
        self.p.2.sqrt()
    }

    /// Deviation of the expected offset, in nanoseconds.
    pub fn deviation(&self) -> u64 {
        (self.p.0.sqrt() * 1e9) as u64
    }

    /// Growth of the error without measurements, in seconds per second.
    pub fn drift_bound(&self) -> f64 {
        PHI + self.frequency_deviation()
    }

    /// Deviation to expect of the phase after so many more seconds, in seconds.
    pub fn predicted(&self, seconds: f64) -> f64 {
        let (pp, pr, rr) = self.p;
        let wander = self.wander * seconds.powi(3) / 3.0;
        (pp + 2.0 * pr * seconds + rr * seconds * seconds + wander).sqrt()
    }

    /// Moves the estimate to `now`.
    pub fn advance(&mut self, now: Mono) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        // The kernel takes this share of the rest at the start of each of its seconds.
        let share = 0.5_f64.powi(2 + i32::from(self.time_constant));
        let slewed = self.slew * (1.0 - (1.0 - share).powf(seconds));
        self.slew -= slewed;
        self.corrected += slewed + (self.frequency - self.base) * seconds;
        self.phase += self.rate * seconds - slewed;
        let (pp, pr, rr) = self.p;
        // We know the kernel's seconds only to ± one, so the share of one is uncertain.
        let unsure = if seconds > 0.0 {
            self.slew * share
        } else {
            0.0
        };
        let wander = self.wander * seconds;
        self.p = (
            pp + 2.0 * pr * seconds
                + rr * seconds * seconds
                + wander * seconds * seconds / 3.0
                + unsure * unsure,
            pr + rr * seconds + wander * seconds / 2.0,
            rr + wander,
        );
    }

    /// Starts the phase anew from the best measurement of a burst, without a conclusion on the rate.
    ///
    /// `offset` and `sigma` in nanoseconds.
    pub fn settle(&mut self, offset: i64, sigma: f64) {
        self.phase = offset as f64 / 1e9;
        self.p.0 = (sigma / 1e9).powi(2);
        self.p.1 = 0.0;
        self.spikes = 0;
    }

    /// Takes in a measurement at the moment of the last [`advance`](Self::advance).
    ///
    /// `offset` and its deviation `sigma` in nanoseconds; `delay`, the sample's round trip, bounds what is believed at
    /// once (no honest error is larger).
    pub fn measure(&mut self, offset: i64, sigma: f64, delay: u64) -> Verdict {
        let innovation = offset as f64 / 1e9 - self.phase;
        let noise = (sigma / 1e9).powi(2);
        let expected = (self.p.0 + noise).sqrt();
        let mut gate = 5.0 * expected;
        if self.frequency_is_known() {
            gate = gate.min((delay as f64 / 1e9).max(1e-3));
        }
        if innovation.abs() > gate {
            return self.spike(innovation, noise);
        }
        self.spikes = 0;
        self.update(innovation, noise);
        let relative = innovation / expected;
        self.adapt(relative * relative);
        Verdict::Accepted(relative.abs())
    }

    fn spike(&mut self, innovation: f64, noise: f64) -> Verdict {
        if innovation.abs() > MAX_SLEW {
            // Not to be slewed; whether to step is decided elsewhere.
            return Verdict::Spike;
        }
        let sign = innovation.signum() as i8;
        self.spikes = if self.spikes.signum() == sign {
            self.spikes + sign
        } else {
            sign
        };
        if self.spikes.abs() < 3 {
            return Verdict::Spike;
        }
        self.spikes = 0;
        // The oscillator did what it should not: believe the measurement, and doubt the frequency.
        self.p.0 += innovation * innovation;
        self.p.2 = self.p.2.max(LEARNED_RATE * LEARNED_RATE);
        self.update(innovation, noise);
        Verdict::Persistent
    }

    fn update(&mut self, innovation: f64, noise: f64) {
        let (pp, pr, rr) = self.p;
        let total = pp + noise;
        let (gain_phase, gain_rate) = (pp / total, pr / total);
        self.phase += gain_phase * innovation;
        self.rate += gain_rate * innovation;
        self.p = (
            (1.0 - gain_phase) * pp,
            (1.0 - gain_phase) * pr,
            (rr - gain_rate * pr).max(0.0),
        );
    }

    /// Too many surprises: the oscillator wanders more than thought. None: less.
    fn adapt(&mut self, squared: f64) {
        self.surprise += (squared.min(25.0) - self.surprise) / 8.0;
        if self.surprise > 1.5 {
            self.wander = (self.wander * 2.0).min(WANDER.1);
        } else if self.surprise < 0.7 {
            self.wander = (self.wander / 1.2).max(WANDER.0);
        }
    }

    /// The correction that makes phase and rate zero; `poll` is the poll interval as a power of two of seconds.
    pub fn correction(&mut self, poll: u8) -> Correction {
        let wanted = (self.frequency + self.rate).clamp(-MAX_FREQUENCY, MAX_FREQUENCY);
        self.rate -= wanted - self.frequency;
        self.previous = self.frequency;
        self.frequency = wanted;
        self.slew = self.phase.clamp(-MAX_SLEW, MAX_SLEW);
        // A quarter of the poll interval: the slew is over by the next measurement.
        self.time_constant = poll.saturating_sub(4).min(10);
        Correction {
            frequency: self.frequency,
            slew: (self.slew * 1e9) as i64,
            time_constant: self.time_constant,
            deviation: self.deviation(),
        }
    }

    /// The kernel did not take the last correction: the oscillator goes on as before.
    pub fn not_taken(&mut self) {
        self.rate += self.frequency - self.previous;
        self.frequency = self.previous;
        self.slew = 0.0;
    }

    /// The clock was moved by `offset` nanoseconds at once, by us or by someone else.
    pub fn stepped(&mut self, offset: i64) {
        self.steps = self.steps.saturating_add(offset);
        self.phase -= offset as f64 / 1e9;
        self.slew = 0.0;
        self.spikes = 0;
    }
}

/// A frequency in the kernel's unit, 2⁻¹⁶ ppm.
pub fn to_kernel(frequency: f64) -> i64 {
    (frequency * 65_536e6) as i64
}

/// A frequency from the kernel's unit, 2⁻¹⁶ ppm.
pub fn from_kernel(frequency: i64) -> f64 {
    frequency as f64 / 65_536e6
}
