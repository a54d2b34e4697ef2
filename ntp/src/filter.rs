//! One server's recent samples, and the best of them (RFC 5905 section 10, in its simple form); pure.
//!
//! How far the newest of them is to be trusted is told by [`Filter::noise`].
//! Our clock moves after a sample: by its oscillator, and by our corrections.
//! So each sample is kept with the sum of all corrections up to it, and what it means now is reckoned from the
//! corrections and the oscillator's error since ([`Reckoning`]).

mod noise;

use rsntp::LeapIndicator;

use crate::wall::Mono;

pub use noise::Noise;

/// Samples kept for each server.
const KEPT: usize = 32;

/// Samples of which the median is taken: three in a row outvote what was before, one or two do not.
const RECENT: usize = 5;

/// How far two samples of an honest server may miss each other beyond their bounds, in nanoseconds.
const TOLERANCE: u64 = 5_000_000;

/// How far two samples may miss each other and still back the same step, in nanoseconds: a clock that counts whole
/// seconds must not fail for it.
const SAME_STEP: u64 = 1_500_000_000;

/// A measurement counts for nothing once it is this old: eight polls at the longest interval.
const STALE: Mono = Mono::from_secs(8 * 1_024 + 512);

/// What moves our clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reckoning {
    /// Sum of all corrections so far, in nanoseconds: steps, slews, and the frequency correction over time.
    pub corrected: i64,
    /// The oscillator's error as it is known now, in nanoseconds per second; positive: it is slow.
    pub drift: f64,
    /// How wrong that may be: the growth of a sample's uncertainty with its age, in nanoseconds per second.
    pub ageing: f64,
}

/// One reply that passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the reply came.
    pub at: Mono,
    /// How far our clock was behind, in nanoseconds.
    pub offset: i64,
    /// Round trip in nanoseconds.
    pub delay: u64,
    /// The server's own root delay / 2 + root dispersion, in nanoseconds.
    pub root: u64,
    /// The server's precision in nanoseconds.
    pub precision: u64,
    /// The server's stratum, 1 to 15.
    pub stratum: u8,
    /// What the server says of leap seconds.
    pub leap: LeapIndicator,
}

impl Sample {
    /// Bound of the offset's error as it was measured, in nanoseconds: root distance, half the round trip, precision.
    pub fn distance(&self) -> u64 {
        self.root + self.delay / 2 + self.precision
    }
}

/// What a server says of our clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// How far our clock is behind now, in nanoseconds.
    pub offset: i64,
    /// Bound of that offset's error, in nanoseconds.
    pub bound: u64,
    /// Round trip of the sample behind it, in nanoseconds.
    pub delay: u64,
    /// The server's stratum.
    pub stratum: u8,
    /// What the server last said of leap seconds.
    pub leap: LeapIndicator,
    /// Whether most of its recent samples say the same; a coarse clock's do not.
    pub supported: bool,
}

/// The last samples of one server.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Newest last; with each, the corrections made up to then, in nanoseconds.
    samples: Vec<(Sample, i64)>,
}

impl Filter {
    /// Keeps a sample; `corrected` is the sum of all corrections of our clock so far, in nanoseconds.
    pub fn push(&mut self, sample: Sample, corrected: i64) {
        if self.samples.len() >= KEPT {
            self.samples.remove(0);
        }
        self.samples.push((sample, corrected));
    }

    /// Forgets everything, as after the clock was changed by someone else.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// How many samples it holds.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether it holds no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What the server last said of leap seconds.
    pub fn leap(&self) -> Option<LeapIndicator> {
        self.samples.last().map(|(sample, _)| sample.leap)
    }

    /// The shortest round trip among the samples kept, in nanoseconds.
    pub fn shortest_delay(&self) -> Option<u64> {
        self.samples.iter().map(|(sample, _)| sample.delay).min()
    }

    /// The best sample by its bound now, which grows with age, so that a good one is used until a better one comes.
    ///
    /// Samples that contradict the recent median are spikes, and no candidates.
    pub fn best(&self, now: Mono, reckoning: Reckoning) -> Option<Estimate> {
        let leap = self.leap()?;
        let estimates: Vec<Estimate> = self
            .samples
            .iter()
            .filter(|(sample, _)| now.saturating_sub(sample.at) < STALE)
            .map(|(sample, then)| Estimate {
                offset: reckoned(sample, *then, now, reckoning),
                bound: sample.distance() + aged(now, sample.at, reckoning),
                delay: sample.delay,
                stratum: sample.stratum,
                leap,
                supported: false,
            })
            .collect();
        let median = median(&estimates)?;
        let agrees = |e: &&Estimate| {
            let reach = e
                .bound
                .saturating_add(median.bound)
                .saturating_add(TOLERANCE);
            e.offset.abs_diff(median.offset) <= reach
        };
        let count = estimates.len().min(RECENT);
        let recent = estimates.iter().rev().take(count);
        let supported = recent.filter(agrees).count() * 2 > count;
        let best = estimates.iter().filter(agrees).min_by_key(|e| e.bound)?;
        Some(Estimate { supported, ..*best })
    }

    /// How many of the recent samples say about the same as a step by `offset` nanoseconds.
    pub fn backers(&self, offset: i64, now: Mono, reckoning: Reckoning) -> usize {
        let reach = SAME_STEP.min(offset.unsigned_abs() / 2);
        let recent = self.samples.iter().rev().take(RECENT);
        recent
            .filter(|(sample, then)| {
                let said = reckoned(sample, *then, now, reckoning);
                said.abs_diff(offset) <= reach
            })
            .count()
    }
}

/// The middle one of the recent estimates by offset; of an even number the newest is left out, since what is
/// established goes before what is new.
fn median(estimates: &[Estimate]) -> Option<Estimate> {
    let count = estimates.len().min(RECENT);
    let recent = estimates.get(estimates.len() - count..)?;
    let odd = count.saturating_sub(1) / 2 * 2 + 1;
    let mut recent = recent.get(..odd)?.to_vec();
    recent.sort_by_key(|estimate| estimate.offset);
    recent.get(recent.len() / 2).copied()
}

/// What a sample's offset has become by now.
fn reckoned(sample: &Sample, then: i64, now: Mono, reckoning: Reckoning) -> i64 {
    let drifted = now.saturating_sub(sample.at).as_secs_f64() * reckoning.drift;
    sample
        .offset
        .saturating_add(drifted as i64)
        .saturating_sub(reckoning.corrected.saturating_sub(then))
}

fn aged(now: Mono, at: Mono, reckoning: Reckoning) -> u64 {
    (now.saturating_sub(at).as_secs_f64() * reckoning.ageing) as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn still(corrected: i64) -> Reckoning {
        Reckoning {
            corrected,
            drift: 0.0,
            ageing: 15_000.0,
        }
    }

    /// A sample as a good server in the neighbourhood gives it.
    pub(crate) fn sample(at: u64, offset: i64, delay: u64) -> Sample {
        Sample {
            at: Mono::from_secs(at),
            offset,
            delay,
            root: 1_000_000,
            precision: 1_000,
            stratum: 2,
            leap: LeapIndicator::NoWarning,
        }
    }

    #[test]
    fn the_best_is_the_one_with_the_shortest_round_trip_until_it_ages() {
        let mut filter = Filter::default();
        filter.push(sample(0, 100, 2_000_000), 0);
        filter.push(sample(64, 900_000, 20_000_000), 0);
        assert_eq!(
            filter.best(Mono::from_secs(64), still(0)).unwrap().offset,
            100
        );
        // 9 ms of half round trip are worth 600 s of ageing.
        assert_eq!(
            filter.best(Mono::from_secs(640), still(0)).unwrap().offset,
            100
        );
        filter.push(sample(800, 300, 19_000_000), 0);
        assert_eq!(
            filter.best(Mono::from_secs(801), still(0)).unwrap().offset,
            300
        );
    }

    #[test]
    fn corrections_since_a_sample_are_taken_off() {
        let mut filter = Filter::default();
        filter.push(sample(0, 5_000, 1_000), 100);
        assert_eq!(
            filter
                .best(Mono::from_secs(1), still(4_100))
                .unwrap()
                .offset,
            1_000
        );
    }

    #[test]
    fn a_frequency_that_is_corrected_moves_nothing() {
        let mut filter = Filter::default();
        filter.push(sample(0, 500, 1_000), 0);
        // 50 ppm slow, and sped up by 50 ppm: 6.4 ms of correction in 128 s leave the offset as it was.
        let reckoning = Reckoning {
            corrected: 6_400_000,
            drift: 50_000.0,
            ..still(0)
        };
        assert_eq!(
            filter.best(Mono::from_secs(128), reckoning).unwrap().offset,
            500
        );
    }

    #[test]
    fn a_spike_is_no_candidate_until_three_agree() {
        let mut filter = Filter::default();
        let offset = |filter: &Filter| filter.best(Mono::from_secs(9), still(0)).unwrap().offset;
        let spike = 10_000_000_000;
        for (at, measured, want) in [
            (0, 1, 1),
            (2, spike, 1),
            (4, spike, spike),
            (6, 1, spike),
            (8, 1, 1),
        ] {
            filter.push(sample(at, measured, 1_000 - at), 0);
            assert_eq!(offset(&filter), want, "at {at}");
        }
        let mut calm = Filter::default();
        (0..5).for_each(|at| calm.push(sample(at, 1, 1_000), 0));
        for want in [1, 1, spike] {
            calm.push(sample(8, spike, 10), 0);
            assert_eq!(offset(&calm), want);
        }
    }

    #[test]
    fn old_samples_count_for_nothing() {
        let mut filter = Filter::default();
        filter.push(sample(0, 0, 1_000), 0);
        assert!(filter.best(Mono::from_secs(8_703), still(0)).is_some());
        assert!(filter.best(Mono::from_secs(8_704), still(0)).is_none());
    }
}
