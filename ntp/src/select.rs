//! Which servers tell the truth: intersection of their intervals (RFC 5905 section 11.2.1, simple form); pure.
//!
//! Each server claims that the true offset lies within its bound of its estimate.
//! The largest set of servers whose claims have a common point wins, if it is more than half of all;
//! then these are the truechimers, and everyone else is a falseticker.

use crate::filter::Estimate;

/// What the servers agree on.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Indices of the truechimers, best bound first.
    pub truechimers: Vec<usize>,
    /// How far our clock is behind, in nanoseconds: the truechimers' mean, weighted by their bounds.
    pub offset: i64,
    /// Bound of that offset's error, in nanoseconds: the best truechimer's, widened by how far the mean is from it.
    pub bound: u64,
}

/// Servers that claim less error than they have are common (asymmetric routes, coarse clocks, a root dispersion of
/// zero). So if no majority agrees to the letter, a common point may lie this far outside, in nanoseconds.
const TOLERANCES: [u64; 3] = [1_000_000, 5_000_000, 25_000_000];

/// Finds the majority among `voters` servers, of which `estimates` have said something.
///
/// `voters` is larger while servers that were asked may still answer: a quick liar must not decide alone.
pub fn select(estimates: &[Estimate], voters: usize) -> Option<Agreement> {
    TOLERANCES.iter().find_map(|tolerance| {
        let widened = |e: &Estimate| Estimate {
            bound: e.bound.saturating_add(*tolerance),
            ..*e
        };
        let claims: Vec<Estimate> = estimates.iter().map(widened).collect();
        agree(estimates, &claims, voters)
    })
}

fn agree(estimates: &[Estimate], claims: &[Estimate], voters: usize) -> Option<Agreement> {
    let point = densest_point(claims)?;
    let mut truechimers: Vec<usize> = (0..estimates.len())
        .filter(|index| claims.get(*index).is_some_and(|e| covers(e, point)))
        .collect();
    if truechimers.len() * 2 <= voters.max(estimates.len()) {
        return None;
    }
    truechimers.sort_by_key(|index| estimates.get(*index).map(|e| e.bound));
    let chosen: Vec<&Estimate> = truechimers
        .iter()
        .filter_map(|index| estimates.get(*index))
        .collect();
    let offset = weighted_mean(&chosen)?;
    let best = chosen.first()?;
    Some(Agreement {
        offset,
        bound: best.bound + best.offset.abs_diff(offset),
        truechimers,
    })
}

/// A point that the most intervals share; of several, the first that is reached from below.
fn densest_point(estimates: &[Estimate]) -> Option<i64> {
    estimates.iter().map(lower).max_by_key(|point| {
        let shared = estimates.iter().filter(|e| covers(e, *point)).count();
        (shared, std::cmp::Reverse(*point))
    })
}

fn covers(estimate: &Estimate, point: i64) -> bool {
    (lower(estimate)..=upper(estimate)).contains(&point)
}

fn lower(estimate: &Estimate) -> i64 {
    estimate.offset.saturating_sub_unsigned(estimate.bound)
}

fn upper(estimate: &Estimate) -> i64 {
    estimate.offset.saturating_add_unsigned(estimate.bound)
}

/// Relative to the first, so that offsets of many years keep their nanoseconds.
fn weighted_mean(estimates: &[&Estimate]) -> Option<i64> {
    let base = estimates.first()?.offset;
    let weight = |e: &Estimate| 1.0 / (e.bound.max(1_000) as f64);
    let total: f64 = estimates.iter().map(|e| weight(e)).sum();
    let sum: f64 = estimates
        .iter()
        .map(|e| weight(e) * e.offset.saturating_sub(base) as f64)
        .sum();
    Some(base.saturating_add((sum / total) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsntp::LeapIndicator;

    const MS: i64 = 1_000_000;

    fn estimates(rows: &[(i64, i64)]) -> Vec<Estimate> {
        rows.iter()
            .map(|(offset, bound)| Estimate {
                offset: offset * MS,
                bound: (bound * MS).unsigned_abs(),
                delay: 0,
                stratum: 2,
                leap: LeapIndicator::NoWarning,
                supported: true,
            })
            .collect()
    }

    #[track_caller]
    fn check(rows: &[(i64, i64)], voters: usize, want: Option<&[usize]>) {
        let agreement = select(&estimates(rows), voters);
        let mut got = agreement.map(|a| a.truechimers);
        if let Some(list) = &mut got {
            list.sort_unstable();
        }
        assert_eq!(got.as_deref(), want);
    }

    #[test]
    fn nobody_says_nothing() {
        check(&[], 0, None);
        check(&[], 3, None);
    }

    #[test]
    fn one_server_is_a_majority_of_one_only() {
        check(&[(5, 1)], 1, Some(&[0]));
        check(&[(5, 1)], 2, None);
    }

    #[test]
    fn two_must_agree() {
        check(&[(0, 10), (5, 10)], 2, Some(&[0, 1]));
        check(&[(0, 10), (500, 10)], 2, None);
        // 40 ms apart: one of them claims too little, which is forgiven; 80 ms apart is not.
        check(&[(0, 1), (40, 1)], 2, Some(&[0, 1]));
        check(&[(0, 1), (80, 1)], 2, None);
    }

    #[test]
    fn a_minority_of_liars_is_found() {
        check(&[(0, 10), (5, 10), (9_000, 1)], 3, Some(&[0, 1]));
        check(
            &[(9_000, 1), (3, 10), (5, 10), (9_000, 1), (0, 9)],
            5,
            Some(&[1, 2, 4]),
        );
    }

    #[test]
    fn tolerance_is_not_spent_where_a_majority_agrees_without() {
        check(&[(0, 2), (1, 2), (20, 1)], 3, Some(&[0, 1]));
    }

    #[test]
    fn half_is_not_a_majority() {
        check(&[(0, 10), (5, 10), (900, 10), (905, 10)], 4, None);
        check(&[(0, 10), (5, 10), (905, 10)], 4, None);
    }

    #[test]
    fn a_lying_majority_wins_as_it_must() {
        check(&[(0, 10), (900, 10), (905, 10)], 3, Some(&[1, 2]));
    }

    #[test]
    fn three_agree_on_one_point_though_two_do_not_meet() {
        // 0±10 and 18±10 share 8..10 with 9±2.
        check(&[(0, 10), (18, 10), (9, 2)], 3, Some(&[0, 1, 2]));
    }

    #[test]
    fn the_mean_leans_to_the_better_bound_and_keeps_decades_exact() {
        let far = 56 * 365 * 86_400 * 1_000;
        let got = select(&estimates(&[(far, 1), (far + 10, 9)]), 2).unwrap();
        assert_eq!(got.offset, (far + 1) * MS);
        assert_eq!(got.bound, (2 * MS).unsigned_abs());
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut rows = estimates(&[(0, 1), (0, 1)]);
        rows[0].offset = i64::MAX;
        rows[1].offset = i64::MIN;
        rows[1].bound = u64::MAX;
        let _ = select(&rows, 2);
    }
}
