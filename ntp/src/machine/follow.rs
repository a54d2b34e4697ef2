//! What follows from a majority, or from the want of one; pure.
//!
//! Whether there is one is [`crate::select`]'s.
//! Tested with its machine, by `tests/simulation.rs`.

use super::{DISCORD, Machine, Phase, Trouble};
use crate::action::{Action, Moment, Steering};
use crate::discipline::Verdict;
use crate::filter::Sample;
use crate::limits::{self, Judgement};
use crate::poll::Poll;
use crate::select::Agreement;
use crate::server::ServerId;

impl Machine {
    /// The offset is small: let it steer the kernel.
    pub(super) fn follow(
        &mut self,
        agreement: &Agreement,
        sigma: f64,
        newest: Option<(ServerId, Sample)>,
        moment: Moment,
        actions: &mut Vec<Action>,
    ) {
        match self.phase {
            Phase::Settling { until } if moment.now >= until => self.phase = Phase::Running,
            // Far away or coarse, and no contradiction: the rest of the burst may know better.
            Phase::Deciding if agreement.bound > limits::STEP && self.pool.is_bursting() => return,
            Phase::Deciding | Phase::Settling { .. } => {
                self.discipline.settle(agreement.offset, sigma);
                self.steer(agreement, actions);
                return;
            }
            Phase::Running => {}
        }
        let Some((id, sample)) = newest else { return };
        let noise = self.pool.noise(id, moment.now, self.discipline.reckoning());
        let (sigma, offset) = (noise.deviation, sample.offset.saturating_sub(noise.leaning));
        let apart = offset.saturating_sub(self.discipline.offset());
        // What a server may honestly be off is bounded by its own claim; more is no bias.
        if apart.unsigned_abs() <= sample.distance() {
            self.pool.learn_bias(id, apart);
        }
        let offset = offset.saturating_sub(self.pool.bias(id));
        match self.discipline.measure(offset, sigma, sample.delay) {
            Verdict::Spike => return,
            Verdict::Persistent => self.poll = Poll::new(),
            Verdict::Accepted(_) => self.poll.adapt(&self.discipline, sigma, self.pool.len()),
        }
        self.steer(agreement, actions);
    }

    fn steer(&mut self, agreement: &Agreement, actions: &mut Vec<Action>) {
        let correction = self.discipline.correction(self.poll.exponent());
        let leap = self.pool.leap();
        // The clock is on its way from where it is to where the filter wants it, by all samples, not the best alone.
        let (here, there) = (
            agreement.offset.unsigned_abs(),
            agreement.offset.abs_diff(correction.slew),
        );
        let bound = agreement.bound.saturating_add(here.max(there));
        actions.push(Action::Steer(Steering {
            correction,
            bound,
            leap,
        }));
    }

    /// The offset is too large to be slewed.
    pub(super) fn consider_step(&mut self, offset: i64, moment: Moment, actions: &mut Vec<Action>) {
        let clocks = (moment.wall, moment.now);
        let next = self.pool.next_vote().unwrap_or(moment.now);
        let claim = &mut self.claim;
        match limits::judge(offset, self.history, clocks, self.span, next, claim) {
            Judgement::Step => {
                self.trouble = Trouble::None;
                actions.push(Action::Step(offset));
            }
            refused => {
                self.poll = Poll::new();
                if self.trouble != Trouble::Refused(refused) {
                    self.trouble = Trouble::Refused(refused);
                    actions.push(Action::Log(refused.describe(offset)));
                }
                self.report.withhold(actions);
            }
        }
    }

    pub(super) fn on_discord(
        &mut self,
        speakers: usize,
        moment: Moment,
        actions: &mut Vec<Action>,
    ) {
        if speakers < 2 || self.pool.awaited() > 0 {
            return;
        }
        self.claim = None;
        let since = match self.trouble {
            Trouble::NoMajority { since } => since,
            Trouble::None | Trouble::Refused(_) => {
                actions.push(Action::Log(format!(
                    "no majority among {speakers} servers; the clock is left alone"
                )));
                moment.now
            }
        };
        self.trouble = Trouble::NoMajority { since };
        if moment.now.saturating_sub(since) >= DISCORD {
            self.report.lose(Some("servers disagree"), actions);
        }
    }
}
