//! When the clock may be set, and to what; pure.
//!
//! | | forward | backward |
//! |---|---|---|
//! | before the first synchronisation of this boot | free | at most a day |
//! | later | at most 1,000 s | at most 1,000 s |
//!
//! Beyond that a majority must say the same for [`PERSISTENCE`] without a break.
//! Never before the build, never after build + 20 years, whoever says so.

use crate::packet::Span;
use crate::wall::{Mono, SECOND, Wall};

/// Smaller offsets are slewed at the start: RFC 5905's step threshold, 128 ms, in nanoseconds.
pub const STEP: u64 = 128_000_000;

/// Smaller offsets are slewed later, when programs rely on the clock: what the kernel can slew, half a second.
pub const LATER_STEP: u64 = 500_000_000;

/// Backward steps at the start are free up to a day, in nanoseconds.
const FIRST_BACKWARD: i64 = 86_400 * SECOND;

/// Later steps are free up to this, in nanoseconds.
const LATER: u64 = 1_000_000_000_000;

/// How long a majority must insist on a step that is refused at first: 15 minutes.
pub const PERSISTENCE: Mono = Mono::from_secs(900);

/// How long after the time for the next answer a majority may be silent and still insist: two polls at the shortest
/// interval, and a third on its way.
const BREAK: Mono = Mono::from_secs(200);

/// Two offsets of a majority that differ by less than this are the same claim, in nanoseconds.
const SAME: u64 = 1_000_000_000;

/// How old a build may be before its ceiling: 20 years, in seconds.
const LIFETIME: i64 = 20 * 365 * 86_400 + 5 * 86_400;

/// The build's time, if the builder did not tell it (`SOURCE_DATE_EPOCH`): 1 January 2026.
const RELEASED: i64 = 1_767_225_600;

/// Whether the clock was right at some time of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Nobody has vouched for the clock in this boot.
    Never,
    /// It was synchronised, by this process or by one before it.
    Synchronised,
}

/// The answer to a wish to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Set the clock.
    Step,
    /// Not yet: too far, and not insisted on for long enough.
    TooFar,
    /// Never: the result would lie outside the build's lifetime.
    Impossible,
}

impl Judgement {
    /// What the operator is told when a step by `offset` nanoseconds is refused.
    pub fn describe(self, offset: i64) -> String {
        let seconds = offset as f64 / SECOND as f64;
        match self {
            Self::Impossible => {
                format!("servers ask for {seconds:+.3} s: refused, outside this build's lifetime")
            }
            Self::TooFar | Self::Step => format!(
                "servers ask for {seconds:+.3} s: too far, refused until a majority has insisted for {} s",
                PERSISTENCE.as_secs()
            ),
        }
    }
}

/// A claim that was refused as too far, and since when it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    since: Mono,
    offset: i64,
    /// When it lapses, unless it is repeated.
    until: Mono,
}

/// The times that are possible for this build.
pub fn span() -> Span {
    span_of(option_env!("SOURCE_DATE_EPOCH"))
}

fn span_of(epoch: Option<&str>) -> Span {
    let built = epoch
        .and_then(|text| text.parse().ok())
        .filter(|seconds| *seconds > RELEASED)
        .unwrap_or(RELEASED);
    Span {
        floor: Wall::from_seconds(built),
        ceiling: Wall::from_seconds(built.saturating_add(LIFETIME)),
    }
}

/// What to set the clock to at the start: the newest of build time, saved time and hardware clock, or nothing if the
/// clock is there already. What lies beyond the ceiling is disbelieved, a clock there is brought back.
pub fn start(now: Wall, saved: Option<Wall>, rtc: Option<Wall>, span: Span) -> Option<Wall> {
    let newest = [saved, rtc]
        .into_iter()
        .flatten()
        .filter(|time| *time <= span.ceiling)
        .fold(span.floor, Wall::max);
    (now < newest || now > span.ceiling).then_some(newest)
}

/// Judges a step by `offset` nanoseconds that a majority wishes at wall time `wall`; `claim` carries a refused wish
/// from one call to the next, and `next` is when a majority is asked again.
pub fn judge(
    offset: i64,
    history: History,
    (wall, now): (Wall, Mono),
    span: Span,
    next: Mono,
    claim: &mut Option<Claim>,
) -> Judgement {
    let target = wall.shifted(offset);
    if target < span.floor || target > span.ceiling {
        *claim = None;
        return Judgement::Impossible;
    }
    let free = match history {
        History::Never => offset >= -FIRST_BACKWARD,
        History::Synchronised => offset.unsigned_abs() <= LATER,
    };
    let until = next.max(now) + BREAK;
    let standing = match *claim {
        Some(old) if old.offset.abs_diff(offset) < SAME && now <= old.until => {
            Claim { until, ..old }
        }
        Some(_) | None => Claim {
            since: now,
            offset,
            until,
        },
    };
    *claim = Some(standing);
    if free || now.saturating_sub(standing.since) >= PERSISTENCE {
        *claim = None;
        return Judgement::Step;
    }
    Judgement::TooFar
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = RELEASED + 100 * DAY;

    #[track_caller]
    fn check(seconds: i64, history: History, want: Judgement) {
        let got = judge(
            seconds * SECOND,
            history,
            (Wall::from_seconds(NOW), Mono::ZERO),
            span_of(None),
            Mono::ZERO,
            &mut None,
        );
        assert_eq!(got, want);
    }

    #[test]
    fn the_table_of_steps() {
        check(10 * 365 * DAY, History::Never, Judgement::Step);
        check(-DAY, History::Never, Judgement::Step);
        check(-DAY - 1, History::Never, Judgement::TooFar);
        check(1_000, History::Synchronised, Judgement::Step);
        check(1_001, History::Synchronised, Judgement::TooFar);
        check(-1_000, History::Synchronised, Judgement::Step);
        check(-1_001, History::Synchronised, Judgement::TooFar);
        check(-101 * DAY, History::Never, Judgement::Impossible);
        check(21 * 366 * DAY, History::Never, Judgement::Impossible);
    }

    #[test]
    fn a_majority_that_insists_for_fifteen_minutes_is_followed() {
        let mut claim = None;
        let mut at = |seconds, offset| {
            let moment = (Wall::from_seconds(NOW), Mono::from_secs(seconds));
            judge(
                offset * SECOND,
                History::Synchronised,
                moment,
                span_of(None),
                Mono::from_secs(seconds + 800),
                &mut claim,
            )
        };
        assert_eq!(at(0, 5_000), Judgement::TooFar);
        assert_eq!(at(899, 5_000), Judgement::TooFar);
        // Another claim starts its own quarter of an hour.
        assert_eq!(at(900, 7_000), Judgement::TooFar);
        assert_eq!(at(901, 5_000), Judgement::TooFar);
        assert_eq!(at(1_800, 5_000), Judgement::TooFar);
        assert_eq!(at(1_801, 5_000), Judgement::Step);
        assert_eq!(at(1_802, 5_000), Judgement::TooFar);
    }

    #[track_caller]
    fn check_insistence(claims: impl Iterator<Item = u64>, want: Judgement) {
        let mut claim = None;
        let last = claims
            .map(|seconds| {
                judge(
                    5_000 * SECOND,
                    History::Synchronised,
                    (Wall::from_seconds(NOW), Mono::from_secs(seconds)),
                    span_of(None),
                    Mono::from_secs(seconds + 64),
                    &mut claim,
                )
            })
            .last();
        assert_eq!(last, Some(want));
    }

    #[test]
    fn insistence_survives_a_lost_answer_and_no_long_silence() {
        check_insistence((0..=7).map(|poll| poll * 136), Judgement::Step);
        check_insistence([0, 136, 1_000].into_iter(), Judgement::TooFar);
        check_insistence((0..=20).map(|poll| poll * 300), Judgement::TooFar);
    }

    #[test]
    fn the_start_takes_the_newest_that_is_possible() {
        let seconds = Wall::from_seconds;
        let span = span_of(None);
        let saved = Some(seconds(NOW));
        assert_eq!(start(seconds(0), None, None, span), Some(span.floor));
        assert_eq!(start(seconds(0), saved, None, span), saved);
        assert_eq!(
            start(seconds(0), saved, Some(seconds(NOW + 5)), span),
            Some(seconds(NOW + 5))
        );
        assert_eq!(start(seconds(NOW + 1), saved, None, span), None);
        assert_eq!(
            start(seconds(0), Some(seconds(i64::MAX)), None, span),
            Some(span.floor)
        );
        assert_eq!(start(span.ceiling.shifted(1), saved, None, span), saved);
    }

    #[test]
    fn the_builder_tells_the_floor() {
        assert_eq!(
            span_of(Some("1800000000")).floor,
            Wall::from_seconds(1_800_000_000)
        );
        let latest = span_of(Some("9223372036854775807"));
        assert!(latest.ceiling >= latest.floor);
        for odd in ["", "x", "-5", "0", "315532800"] {
            assert_eq!(span_of(Some(odd)).floor, Wall::from_seconds(RELEASED));
        }
    }
}
