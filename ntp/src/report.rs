//! The state that the world sees: what is claimed of the clock, and when the claim ends; pure.
//!
//! `synchronised` is claimed after the kernel took a correction, and never before.

use std::net::SocketAddr;

use gokrazy_core::clock::ClockState;
use rsntp::LeapIndicator;

use crate::action::{Action, Moment, Steering};
use crate::filter::Estimate;
use crate::select::Agreement;
use crate::wall::{Mono, SECOND, Wall};

/// An error bound up to this is claimed as synchronisation, in nanoseconds: what one server may be off.
const CLAIMABLE: u64 = 1_500_000_000;

/// When our clock may have drifted by this since the last correction, the claim ends, in nanoseconds; what the servers
/// themselves may be off does not count here, or the claim would come and go.
const WORTHLESS: u64 = 1_000_000_000;

/// How long after midnight a leap second is noticed at the latest, in seconds: the longest interval, and its jitter.
const NOTICED: i64 = 1_200;

/// What an earlier process of this boot has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    /// When the clock was first synchronised in this boot.
    pub first_since: Option<i64>,
    /// The name of this boot.
    pub boot_id: Option<String>,
}

impl Earlier {
    /// What a state file says of this boot; a file of another boot says nothing.
    pub fn of(state: Option<&ClockState>, boot_id: Option<String>) -> Self {
        let ours = state.filter(|state| state.boot_id == boot_id);
        Self {
            first_since: ours.and_then(|state| state.first_since),
            boot_id,
        }
    }
}

/// What is said of the clock.
#[derive(Debug)]
pub struct Report {
    state: ClockState,
    /// When the kernel took the last correction.
    corrected_at: Mono,
}

impl Report {
    /// Nothing is claimed yet, whatever an earlier process said.
    pub fn new(now: Mono, earlier: Earlier) -> Self {
        let state = ClockState {
            first_since: earlier.first_since,
            boot_id: earlier.boot_id,
            ..ClockState::default()
        };
        Self {
            state,
            corrected_at: now,
        }
    }

    /// What was said last.
    pub fn state(&self) -> &ClockState {
        &self.state
    }

    /// A majority has spoken; nothing is done about it yet.
    pub fn measured(
        &mut self,
        source: SocketAddr,
        best: &Estimate,
        agreement: &Agreement,
        moment: Moment,
    ) {
        self.state.source = Some(source.to_string());
        self.state.stratum = Some(best.stratum);
        self.state.offset_ns = Some(agreement.offset);
        self.state.error_bound_ns = Some(agreement.bound + agreement.offset.unsigned_abs());
        self.state.updated = Some(moment.wall.seconds());
    }

    /// The kernel took a correction: the clock is synchronised.
    pub fn steered(&mut self, steering: &Steering, moment: Moment, actions: &mut Vec<Action>) {
        let wall = moment.wall.seconds();
        self.corrected_at = moment.now;
        self.state.error_bound_ns = Some(steering.bound);
        self.state.frequency_ppb = Some((steering.correction.frequency * 1e9) as i64);
        self.state.leap = match steering.leap {
            LeapIndicator::LastMinuteHas61Seconds => Some("insert".to_owned()),
            LeapIndicator::LastMinuteHas59Seconds => Some("delete".to_owned()),
            LeapIndicator::NoWarning | LeapIndicator::AlarmCondition => None,
        };
        // A majority has set it, however coarse; what follows is a later correction, also for a process after us.
        self.state.first_since.get_or_insert(wall);
        if steering.bound > CLAIMABLE && !self.state.synchronised {
            actions.push(Action::Publish(self.state.clone()));
            return;
        }
        if !self.state.synchronised {
            self.state.synchronised = true;
            self.state.since = Some(wall);
            let source = self.state.source.as_deref().unwrap_or("nobody");
            let bound = steering.bound as f64 / SECOND as f64;
            actions.push(Action::Log(format!(
                "synchronised to {source}, error at most {bound:.6} s"
            )));
            actions.push(Action::WriteRtc);
        }
        actions.push(Action::Publish(self.state.clone()));
    }

    /// Whether a clock that jumped by `jump` nanoseconds and shows `wall` has just done the leap second that was announced.
    pub fn is_leap_second(&self, jump: i64, wall: Wall) -> bool {
        let announced = match self.state.leap.as_deref() {
            Some("insert") => -SECOND,
            Some("delete") => SECOND,
            Some(_) | None => return false,
        };
        // A second that is inserted is the day's last one again, and the jump to its begin is seen at once.
        let of_day = (wall.seconds() + 1).rem_euclid(86_400);
        jump.abs_diff(announced) < SECOND.unsigned_abs() / 4 && of_day < NOTICED
    }

    /// No correction follows, since the kernel or our own limits refuse it: what was measured is told, and nothing claimed.
    pub fn withhold(&mut self, actions: &mut Vec<Action>) {
        self.state.synchronised = false;
        self.state.since = None;
        actions.push(Action::Publish(self.state.clone()));
    }

    /// Ends the claim when the error can have become too large since the last correction; `growth` in s/s.
    pub fn doubt(&mut self, now: Mono, growth: f64, actions: &mut Vec<Action>) {
        if self.grown(now, growth) > WORTHLESS {
            self.lose(Some("no server for too long"), actions);
        }
    }

    /// How far our clock may have drifted since the last correction, in nanoseconds; `growth` in s/s.
    pub fn grown(&self, now: Mono, growth: f64) -> u64 {
        let grown = now.saturating_sub(self.corrected_at).as_secs_f64() * growth;
        (grown * 1e9) as u64
    }

    /// When [`Self::doubt`] will end the claim, if nothing is corrected until then; a second late, so that it does.
    pub fn doubtful_at(&self, growth: f64) -> Option<Mono> {
        let lasts = Mono::from_secs_f64(WORTHLESS as f64 / 1e9 / growth) + Mono::from_secs(1);
        self.state
            .synchronised
            .then(|| self.corrected_at.saturating_add(lasts))
    }

    /// Ends the claim, for a `reason` if it was not told already.
    pub fn lose(&mut self, reason: Option<&str>, actions: &mut Vec<Action>) {
        if !self.state.synchronised {
            return;
        }
        self.state.synchronised = false;
        self.state.since = None;
        if let Some(reason) = reason {
            actions.push(Action::Log(format!("no longer synchronised: {reason}")));
        }
        actions.push(Action::Publish(self.state.clone()));
    }
}

// No tests of its own: `tests/simulation.rs` reads every state that the machine publishes.
