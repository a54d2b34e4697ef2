//! How far a server's newest sample is to be trusted, by all that it has said lately; pure.

use super::{Filter, RECENT, Reckoning, Sample, reckoned};
use crate::queueing::{Held, Queueing};
use crate::wall::Mono;

/// What is wrong with an offset; both in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// How much of it is queueing, to be taken off.
    pub leaning: i64,
    /// Standard deviation to expect of the rest.
    pub deviation: f64,
}

impl Noise {
    /// A server that has said nothing.
    pub const SILENCE: Self = Self {
        leaning: 0,
        deviation: f64::INFINITY,
    };
}

impl Filter {
    /// What is wrong with the newest sample.
    ///
    /// An excess of the round trip over the shortest one puts the offset off by a share of it ([`Queueing`]).
    /// Below that lies what the shortest one itself hides.
    /// A server whose offsets scatter more than that has a coarser clock than it says, and is trusted accordingly.
    pub fn noise(&self, now: Mono, reckoning: Reckoning) -> Noise {
        let (Some(shortest), Some((newest, _))) = (self.shortest_delay(), self.samples.last())
        else {
            return Noise::SILENCE;
        };
        let unknown = Queueing::default();
        let queueing = self.queueing(now, reckoning).unwrap_or(unknown);
        let excess = |sample: &Sample| (sample.delay - shortest) as f64;
        let count = self.samples.len() as f64;
        let mut all: Vec<f64> = self.samples.iter().map(|(one, _)| excess(one)).collect();
        all.sort_by(f64::total_cmp);
        let typical = all.get(all.len() / 2).copied().unwrap_or(0.0);
        let hidden = typical / 4.0 * queueing.spread / unknown.spread;
        // With few samples the shortest round trip is not yet known: suspect an eighth of what there is.
        let young = shortest as f64 / 8.0 / count.powi(2);
        let floor = 10_000.0 + newest.precision as f64 / 2.0;
        let parts = [queueing.spread * excess(newest), hidden, young, floor];
        let sum: f64 = parts.iter().map(|part| part.powi(2)).sum();
        let leaning = |sample: &Sample| (queueing.lean * excess(sample)) as i64;
        Noise {
            leaning: leaning(newest),
            deviation: sum.sqrt().max(self.scatter(now, reckoning, &leaning)),
        }
    }

    /// What the samples tell of queueing; those that no queueing explains have no say.
    fn queueing(&self, now: Mono, reckoning: Reckoning) -> Option<Queueing> {
        let (best, then) = self.samples.iter().min_by_key(|(one, _)| one.delay)?;
        let anchor = reckoned(best, *then, now, reckoning);
        let held: Vec<Held> = self
            .samples
            .iter()
            .map(|(sample, then)| (sample, reckoned(sample, *then, now, reckoning)))
            .filter(|(sample, offset)| offset.abs_diff(anchor) <= sample.delay)
            .map(|(sample, offset)| Held {
                excess: (sample.delay - best.delay) as f64,
                offset: offset.saturating_sub(anchor) as f64,
            })
            .collect();
        Some(Queueing::of(&held))
    }

    /// Median distance of the recent offsets, less what queueing did to them, from their median, in nanoseconds: spikes,
    /// and a shift that is under way, leave it as it is.
    fn scatter(&self, now: Mono, reckoning: Reckoning, leaning: &dyn Fn(&Sample) -> i64) -> f64 {
        let recent = self.samples.len().saturating_sub(RECENT);
        let mut offsets: Vec<i64> = self
            .samples
            .iter()
            .skip(recent)
            .map(|(sample, then)| {
                reckoned(sample, *then, now, reckoning).saturating_sub(leaning(sample))
            })
            .collect();
        offsets.sort_unstable();
        let middle = offsets.get(offsets.len() / 2).copied().unwrap_or(0);
        let mut distances: Vec<u64> = offsets
            .iter()
            .map(|offset| offset.abs_diff(middle))
            .collect();
        distances.sort_unstable();
        distances.get(distances.len() / 2).copied().unwrap_or(0) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::{sample, still};

    #[test]
    fn a_queued_sample_is_trusted_less() {
        let mut filter = Filter::default();
        for at in 0..8 {
            filter.push(sample(at, 0, 1_000_000), 0);
        }
        let calm = filter.noise(Mono::ZERO, still(0));
        filter.push(sample(9, 0, 21_000_000), 0);
        let queued = filter.noise(Mono::ZERO, still(0));
        assert!(calm.deviation < 20_000.0, "{calm:?}");
        assert!(queued.deviation > 5_000_000.0, "{queued:?}");
        assert_eq!(queued.leaning, 0);
    }

    #[test]
    fn answers_that_always_wait_are_taken_for_what_they_would_have_said() {
        let mut filter = Filter::default();
        for at in 0..32_u64 {
            let waited = at * 7 % 32 * 1_000_000;
            let offset = 5_000_000 - waited.cast_signed() / 2;
            filter.push(sample(at, offset, 10_000_000 + waited), 0);
        }
        let noise = filter.noise(Mono::from_secs(32), still(0));
        // The last of them waited 25 ms.
        assert!((noise.leaning + 12_500_000).abs() < 1_000, "{noise:?}");
        assert!(noise.deviation < 1_000_000.0, "{noise:?}");
        // A lie tells nothing of queueing; it takes the place of the first sample, and 11 ms are now the shortest.
        filter.push(sample(33, 9_000_000_000, 15_000_000), 0);
        let noise = filter.noise(Mono::from_secs(33), still(0));
        assert!((noise.leaning + 2_000_000).abs() < 1_000, "{noise:?}");
    }

    #[test]
    fn coarse_servers_are_trusted_to_their_precision() {
        let mut filter = Filter::default();
        let coarse = Sample {
            precision: 1_000_000_000,
            ..sample(0, 0, 1_000)
        };
        filter.push(coarse, 0);
        let noise = filter.noise(Mono::ZERO, still(0));
        assert!(noise.deviation >= 500_000_000.0);
        assert!(filter.best(Mono::ZERO, still(0)).unwrap().bound >= 1_000_000_000);
    }
}
