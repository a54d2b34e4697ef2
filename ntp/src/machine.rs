//! The daemon's mind: events in, actions out; pure.
//!
//! ```text
//!            a majority speaks                 the burst is over
//! Deciding ──────────────────────► Settling ────────────────────► Running
//!    ▲       step or slew                   best of the burst        │  every good sample steers
//!    └───────────────────────────────────────────────────────────────┘
//!            someone else changed the clock
//! ```
//!
//! Invariants:
//! - no correction without an [`Agreement`](crate::select::Agreement) of more than half of all servers that speak or may yet speak;
//! - a known falseticker that is left alone with silent servers steers nothing, unless it says what our clock says;
//! - `synchronised` is published only after the kernel has taken a correction ([`Machine::on_applied`]);
//! - the machine never reads a clock and draws no random number: both come with the event.
//!
//! Who is asked when is [`crate::server`]'s, names are [`crate::names`]'s, and what a step may be [`crate::limits`]'s.
//! Tested in a simulated world, by `tests/simulation.rs`.

mod follow;

use std::net::SocketAddr;

use gokrazy_core::clock::ClockState;

use crate::action::{Action, Applied, Moment, Steering};
use crate::discipline::Discipline;
use crate::filter::Sample;
use crate::limits::{self, Claim, History, Judgement};
use crate::names::Spec;
use crate::packet::{Refusal, Span};
use crate::poll::Poll;
use crate::pool::Pool;
use crate::report::{Earlier, Report};
use crate::select::{Agreement, select};
use crate::server::ServerId;
use crate::wall::{Mono, SECOND};

/// How long the best of the first samples is taken before the filter goes on: the burst and its last answer.
const SETTLE: Mono = Mono::from_secs(10);

/// How long servers without a majority leave the clock synchronised: five polls.
const DISCORD: Mono = Mono::from_secs(5 * 68);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Deciding,
    Settling { until: Mono },
    Running,
}

/// What is to be told once, until it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    NoMajority { since: Mono },
    Refused(Judgement),
}

/// All that the daemon knows.
#[derive(Debug)]
pub struct Machine {
    span: Span,
    pool: Pool,
    discipline: Discipline,
    phase: Phase,
    history: History,
    trouble: Trouble,
    claim: Option<Claim>,
    poll: Poll,
    report: Report,
    /// Whether the kernel refuses to be told the time.
    powerless: bool,
}

impl Machine {
    /// Starts with what is known: frequency, sources, and what an earlier process of this boot left.
    pub fn new(
        now: Mono,
        span: Span,
        discipline: Discipline,
        specs: Vec<Spec>,
        earlier: Earlier,
    ) -> Self {
        Self {
            span,
            pool: Pool::new(specs, now),
            discipline,
            phase: Phase::Deciding,
            history: match earlier.first_since {
                Some(_) => History::Synchronised,
                None => History::Never,
            },
            trouble: Trouble::None,
            claim: None,
            poll: Poll::new(),
            report: Report::new(now, earlier),
            powerless: false,
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next.
    pub fn deadline(&self) -> Option<Mono> {
        let doubt = self.report.doubtful_at(self.discipline.drift_bound());
        self.pool.deadline().into_iter().chain(doubt).min()
    }

    /// The state as published last.
    pub fn state(&self) -> &ClockState {
        self.report.state()
    }

    /// The oscillator as it is known.
    pub fn discipline(&self) -> &Discipline {
        &self.discipline
    }

    /// Requests and lookups that are due; `chance` gives numbers from 0 to 1.
    pub fn on_deadline(&mut self, moment: Moment, chance: &mut dyn FnMut() -> f64) -> Vec<Action> {
        let mut actions = self.pool.due(moment.now, self.poll.exponent(), chance);
        self.discipline.advance(moment.now);
        self.reconsider(moment, &mut actions);
        self.report
            .doubt(moment.now, self.discipline.drift_bound(), &mut actions);
        actions
    }

    /// A name was looked up; an empty answer is a failure.
    pub fn on_names(
        &mut self,
        spec: &Spec,
        addresses: &[SocketAddr],
        moment: Moment,
        jitter: f64,
    ) -> Vec<Action> {
        let mut actions = self.pool.resolved(spec, addresses, moment.now, jitter);
        self.reconsider(moment, &mut actions);
        actions
    }

    /// The wait for a silent server may just have ended, and its vote with it.
    fn reconsider(&mut self, moment: Moment, actions: &mut Vec<Action>) {
        if self.phase == Phase::Deciding {
            self.discipline.advance(moment.now);
            self.decide(None, moment, actions);
        }
    }

    /// The configured servers are others now, as after a DHCP lease.
    pub fn on_sources(&mut self, specs: Vec<Spec>, now: Mono) -> Vec<Action> {
        self.pool.replace_sources(specs, now)
    }

    /// The network changed: ask at once whoever could not be reached.
    pub fn on_network(&mut self, now: Mono) {
        self.pool.network_changed(now);
    }

    /// The operator wishes it: look up all names and ask all servers at once.
    pub fn on_renewal(&mut self, now: Mono) {
        self.pool.renew(now);
    }

    /// A request could not leave.
    pub fn on_unsent(&mut self, id: ServerId, reason: &str, now: Mono) -> Vec<Action> {
        self.pool.unsent(id, reason, now)
    }

    /// A server answered with something other than the time, or the network did in its place.
    pub fn on_refused(
        &mut self,
        id: ServerId,
        refusal: Option<Refusal>,
        moment: Moment,
    ) -> Vec<Action> {
        if let Some(server) = self.pool.get(id) {
            server.declined(refusal);
        }
        let mut actions = match refusal {
            Some(Refusal::Kiss(code)) => {
                self.pool.kissed(id, code, moment.now, self.poll.exponent())
            }
            _ => Vec::new(),
        };
        self.reconsider(moment, &mut actions);
        actions
    }

    /// A server's answer passed every check.
    pub fn on_sample(&mut self, id: ServerId, sample: Sample, moment: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.discipline.advance(moment.now);
        let corrected = self.discipline.reckoning().corrected;
        if self.phase == Phase::Running && !self.pool.is_any_reachable() {
            // The first to be heard after a silence does not decide alone: the others are asked at once.
            self.pool.network_changed(moment.now);
        }
        let Some(server) = self.pool.get(id) else {
            return actions;
        };
        server.filter.push(sample, corrected);
        if server.answered(moment.now) {
            actions.push(Action::Log(format!("{} answers", server.address)));
        }
        self.decide(Some((id, sample)), moment, &mut actions);
        actions
    }

    /// Someone else moved the clock by `jump` nanoseconds (or the machine slept): start over.
    ///
    /// A leap second is the kernel's doing by our own word, and the servers' clocks jump with ours.
    pub fn on_jump(&mut self, jump: i64, moment: Moment) -> Vec<Action> {
        if self.report.is_leap_second(jump, moment.wall) {
            return vec![Action::Log("the kernel did the leap second".to_owned())];
        }
        self.discipline.advance(moment.now);
        self.discipline.stepped(jump);
        self.pool.start_over(moment.now);
        self.phase = Phase::Deciding;
        self.poll = Poll::new();
        let seconds = jump as f64 / SECOND as f64;
        let mut actions = vec![Action::Log(format!(
            "the clock was moved by {seconds:+.3} s, not by us; asking again"
        ))];
        self.report.lose(None, &mut actions);
        actions
    }

    /// The kernel took, or refused, a correction.
    pub fn on_applied(
        &mut self,
        applied: Applied,
        result: Result<(), String>,
        moment: Moment,
    ) -> Vec<Action> {
        if let Err(reason) = result {
            return self.on_powerless(applied, &reason);
        }
        let mut actions = Vec::new();
        if self.powerless {
            self.powerless = false;
            actions.push(Action::Log("the kernel takes corrections again".to_owned()));
        }
        match applied {
            Applied::Step(offset) => self.on_stepped(offset, moment, &mut actions),
            Applied::Steer(steering) => self.on_steered(&steering, moment, &mut actions),
        }
        actions
    }

    fn on_powerless(&mut self, applied: Applied, reason: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.powerless {
            self.powerless = true;
            let line = format!(
                "cannot correct the clock: {reason}; only measuring (CAP_SYS_TIME is needed)"
            );
            actions.push(Action::Log(line));
        }
        if matches!(applied, Applied::Steer(_)) {
            self.discipline.not_taken();
        }
        self.report.withhold(&mut actions);
        actions
    }

    fn on_stepped(&mut self, offset: i64, moment: Moment, actions: &mut Vec<Action>) {
        self.discipline.stepped(offset);
        let seconds = offset as f64 / SECOND as f64;
        actions.push(Action::Log(format!(
            "set the clock by {seconds:+.6} s to {}",
            moment.wall
        )));
        self.history = History::Synchronised;
        self.phase = Phase::Settling {
            until: moment.now + SETTLE,
        };
        self.decide(None, moment, actions);
    }

    fn on_steered(&mut self, steering: &Steering, moment: Moment, actions: &mut Vec<Action>) {
        self.history = History::Synchronised;
        if self.phase == Phase::Deciding {
            self.phase = Phase::Settling {
                until: moment.now + SETTLE,
            };
        }
        self.report.steered(steering, moment, actions);
    }

    /// One sample of one server that speaks alone is not enough for a step, neither at the start nor after a silence.
    fn is_hearsay(&self, best: ServerId, agreement: &Agreement, moment: Moment) -> bool {
        let reckoning = self.discipline.reckoning();
        matches!(self.phase, Phase::Deciding | Phase::Running)
            && agreement.truechimers.len() == 1
            && self
                .pool
                .is_hearsay(best, agreement.offset, moment.now, reckoning)
    }

    /// Whether our own clock, unattended since its last correction, may well be off by this.
    fn is_likely(&self, agreement: &Agreement, moment: Moment) -> bool {
        let grown = self.report.grown(moment.now, self.discipline.drift_bound());
        agreement.offset.unsigned_abs() <= agreement.bound.saturating_add(grown)
    }

    /// Looks for a majority, and acts on it.
    fn decide(
        &mut self,
        newest: Option<(ServerId, Sample)>,
        moment: Moment,
        actions: &mut Vec<Action>,
    ) {
        let (ids, estimates) = self.pool.estimates(moment.now, self.discipline.reckoning());
        let voters = estimates.len() + self.pool.awaited();
        let Some(agreement) = select(&estimates, voters) else {
            self.on_discord(estimates.len(), moment, actions);
            return;
        };
        let truechimers: Vec<ServerId> = agreement
            .truechimers
            .iter()
            .filter_map(|index| ids.get(*index).copied())
            .collect();
        if self.phase == Phase::Running
            && let [only] = truechimers.as_slice()
            && self.pool.is_outvoted(*only)
            && !self.is_likely(&agreement, moment)
        {
            return;
        }
        self.pool.judge(&ids, &truechimers, actions);
        let Some((best, estimate)) = truechimers.first().zip(
            agreement
                .truechimers
                .first()
                .and_then(|i| estimates.get(*i)),
        ) else {
            return;
        };
        if let Some(server) = self.pool.get(*best) {
            self.report
                .measured(server.address, estimate, &agreement, moment);
        }
        let slewable = match self.phase {
            Phase::Deciding | Phase::Settling { .. } => limits::STEP,
            Phase::Running => limits::LATER_STEP,
        };
        let size = agreement.offset.unsigned_abs();
        if size >= slewable && size > agreement.bound {
            if self.is_hearsay(*best, &agreement, moment) {
                return;
            }
            if estimate.supported || self.phase == Phase::Deciding {
                self.consider_step(agreement.offset, moment, actions);
                return;
            }
        }
        let sigma = self
            .pool
            .noise(*best, moment.now, self.discipline.reckoning())
            .deviation;
        self.claim = None;
        self.trouble = Trouble::None;
        let trusted = newest.filter(|(id, _)| truechimers.contains(id));
        self.follow(&agreement, sigma, trusted, moment, actions);
    }
}
