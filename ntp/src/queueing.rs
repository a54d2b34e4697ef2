//! On which of its two ways an answer was held up; pure.
//!
//! Half of what a round trip is longer than the shortest one is the most that it can put an offset off: by minus half of
//! the excess if the answer waited, by plus half if the request did.
//! Of one sample it cannot be told which.
//! But where it is mostly the same way, as with a busy uplink or a busy machine, offsets lean with their excess, and a
//! straight line through all of them tells by how much (chrony calls that the asymmetry).
//! Where nothing leans, nothing is taken off.

/// Fewer samples than this tell of chance alone.
const ENOUGH: usize = 8;

/// A lean that is smaller than so many times its own deviation is none.
const SIGNIFICANT: f64 = 3.0;

/// Least spread that is believed, as a share of the excess.
const LEAST: f64 = 0.02;

/// A sample, as far as queueing matters; both in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// How much longer than the shortest its round trip was.
    pub excess: f64,
    /// How far it says that our clock is behind; from any origin.
    pub offset: f64,
}

/// What queueing does to offsets, as shares of the excess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Queueing {
    /// Mean share, from −0.5 (all answers wait) to 0.5 (all requests do).
    pub lean: f64,
    /// Deviation of a sample's share from that.
    pub spread: f64,
}

impl Default for Queueing {
    /// Nothing is known: if each way's queueing is independent, the share lies evenly between −0.5 and 0.5.
    fn default() -> Self {
        Self {
            lean: 0.0,
            spread: 12_f64.sqrt().recip(),
        }
    }
}

impl Queueing {
    /// What these samples tell of it.
    pub fn of(samples: &[Held]) -> Self {
        let unknown = Self::default();
        if samples.len() < ENOUGH {
            return unknown;
        }
        let count = samples.len() as f64;
        let mean = |value: &dyn Fn(&Held) -> f64| samples.iter().map(value).sum::<f64>() / count;
        let (excess, offset) = (mean(&|held| held.excess), mean(&|held| held.offset));
        let apart = |held: &Held| (held.excess - excess, held.offset - offset);
        let square = mean(&|held| apart(held).0.powi(2));
        let product = mean(&|held| apart(held).0 * apart(held).1);
        let lean = (product / square).clamp(-0.5, 0.5);
        // How far a sample is from the line that the others make: one that waited much longer than they did must not
        // vouch for itself (the estimator HC3 of MacKinnon and White).
        let rest = |held: &Held| {
            let (excess, offset) = apart(held);
            let pull = (1.0 + excess.powi(2) / square) / count;
            (offset - lean * excess) / (1.0 - pull)
        };
        let doubt = mean(&|held| (apart(held).0 * rest(held)).powi(2)) / (count * square.powi(2));
        // Also false where nothing was ever held up, and all of this is no number.
        let leans = lean * lean > SIGNIFICANT * SIGNIFICANT * doubt;
        if !leans {
            return unknown;
        }
        let share = mean(&|held| rest(held).powi(2)) / mean(&|held| held.excess.powi(2));
        Self {
            lean,
            spread: (share + doubt).sqrt().clamp(LEAST, unknown.spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Round trips that are longer by 0 to 31 ms; `share` tells each one's offset as a share of that.
    fn samples(count: u32, share: impl Fn(u32) -> f64) -> Vec<Held> {
        let of = |number: u32| {
            let excess = f64::from(number * 7 % 32) * 1e6;
            Held {
                excess,
                offset: 3e9 + share(number) * excess,
            }
        };
        (0..count).map(of).collect()
    }

    #[test]
    fn what_always_waits_on_the_same_way_is_known_by_it() {
        for lean in [-0.5, -0.3, 0.5] {
            let queueing = Queueing::of(&samples(32, |_| lean));
            assert!((queueing.lean - lean).abs() < 1e-6, "{queueing:?}");
            assert!(queueing.spread <= LEAST, "{queueing:?}");
        }
    }

    #[test]
    fn more_than_half_of_the_excess_is_no_queueing() {
        assert_eq!(Queueing::of(&samples(32, |_| -3.0)), Queueing::default());
        assert_eq!(Queueing::of(&samples(32, |_| -0.501)).lean, -0.5);
    }

    #[test]
    fn what_waits_on_either_way_leans_to_none() {
        let either = |number: u32| if number.is_multiple_of(2) { 0.5 } else { -0.5 };
        assert_eq!(Queueing::of(&samples(32, either)), Queueing::default());
    }

    #[test]
    fn one_that_waited_very_long_is_no_rule() {
        let mut all = samples(
            32,
            |number| if number.is_multiple_of(2) { 0.5 } else { -0.5 },
        );
        all[5] = Held {
            excess: 400e6,
            offset: 3e9 - 200e6,
        };
        assert_eq!(Queueing::of(&all), Queueing::default());
    }

    #[test]
    fn few_samples_and_steady_ones_tell_nothing() {
        assert_eq!(Queueing::of(&[]), Queueing::default());
        assert_eq!(Queueing::of(&samples(7, |_| -0.5)), Queueing::default());
        let steady = vec![samples(1, |_| 0.0)[0]; 32];
        assert_eq!(Queueing::of(&steady), Queueing::default());
    }
}
