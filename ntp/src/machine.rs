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
//! - no correction without an [`Agreement`] of more than half of all servers that speak or may yet speak;
//! - `synchronised` is published only after the kernel has taken a correction ([`Machine::on_applied`]);
//! - the machine never reads a clock and draws no random number: both come with the event.
//!
//! Who is asked when is [`crate::server`]'s, names are [`crate::names`]'s, and what a step may be [`crate::limits`]'s.

use std::net::SocketAddr;

use gokrazy_core::clock::ClockState;
use rsntp::{KissCode, LeapIndicator};

use crate::discipline::{Correction, Discipline, Verdict};
use crate::filter::{Estimate, Sample};
use crate::limits::{self, Claim, History, Judgement};
use crate::names::Spec;
use crate::packet::{Refusal, Span};
use crate::pool::Pool;
use crate::select::{Agreement, select};
use crate::server::{MAX_POLL, MIN_POLL, ServerId};
use crate::wall::{Mono, SECOND, Wall};

/// How long the best of the first samples is taken before the filter goes on: the burst and its last answer.
const SETTLE: Mono = Mono::from_secs(10);

/// An error bound above this is no synchronisation, in nanoseconds.
const WORTHLESS: u64 = 1_000_000_000;

/// How long servers without a majority leave the clock synchronised: five polls.
const DISCORD: Mono = Mono::from_secs(5 * 68);

/// Expected phase error at the next poll above which the interval shrinks, in seconds.
const POLL_ERROR: f64 = 250e-6;

/// What the shell is to do.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask a server.
    Send(ServerId, SocketAddr),
    /// Stop listening for a server's answer.
    Forget(ServerId),
    /// Look up a name; then [`Machine::on_names`].
    Resolve(Spec),
    /// Set the clock forward by so many nanoseconds; then [`Machine::on_applied`].
    Step(i64),
    /// Steer the clock; then [`Machine::on_applied`].
    Steer(Steering),
    /// Publish the state.
    Publish(ClockState),
    /// Write the hardware clock.
    WriteRtc,
    /// Tell the operator.
    Log(String),
}

/// A correction, with what the kernel is told beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steering {
    /// Frequency and phase.
    pub correction: Correction,
    /// Bound of the clock's error, in nanoseconds.
    pub bound: u64,
    /// What the servers say of leap seconds.
    pub leap: LeapIndicator,
}

/// What the shell has done to the clock, if the kernel let it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Applied {
    /// A step.
    Step(i64),
    /// A steering.
    Steer(Steering),
}

/// The two clocks at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time.
    pub now: Mono,
    /// Civil time as our clock has it.
    pub wall: Wall,
}

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
    /// Samples in a row that ask for a step while running.
    far: u8,
    poll: u8,
    /// Good samples since the interval was last changed.
    steady: usize,
    state: ClockState,
    /// Bound of the error at the time of the last correction.
    bound: (Mono, u64),
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
            far: 0,
            poll: MIN_POLL,
            steady: 0,
            state: ClockState {
                first_since: earlier.first_since,
                boot_id: earlier.boot_id,
                ..ClockState::default()
            },
            bound: (now, 0),
            powerless: false,
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next.
    pub fn deadline(&self) -> Option<Mono> {
        self.pool.deadline()
    }

    /// The state as published last.
    pub fn state(&self) -> &ClockState {
        &self.state
    }

    /// The oscillator as it is known.
    pub fn discipline(&self) -> &Discipline {
        &self.discipline
    }

    /// Requests and lookups that are due; `chance` gives numbers from 0 to 1.
    pub fn on_deadline(&mut self, moment: Moment, chance: &mut dyn FnMut() -> f64) -> Vec<Action> {
        let mut actions = self.pool.due(moment.now, self.poll, chance);
        self.discipline.advance(moment.now);
        if self.phase == Phase::Deciding {
            // The wait for a silent server may just have ended, and its vote with it.
            self.decide(None, moment, &mut actions);
        }
        self.doubt(moment.now, &mut actions);
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
        if self.phase == Phase::Deciding {
            self.discipline.advance(moment.now);
            self.decide(None, moment, &mut actions);
        }
        actions
    }

    /// The configured servers are others now, as after a DHCP lease.
    pub fn on_sources(&mut self, specs: Vec<Spec>, now: Mono) -> Vec<Action> {
        self.pool.replace_sources(specs, now)
    }

    /// The network changed: ask at once whoever could not be reached.
    pub fn on_network(&mut self, now: Mono) {
        self.pool.network_changed(now);
    }

    /// A request could not leave.
    pub fn on_unsent(&mut self, id: ServerId, now: Mono) {
        if let Some(server) = self.pool.get(id) {
            server.unsent(now);
        }
    }

    /// A server answered with something other than the time.
    pub fn on_refused(&mut self, id: ServerId, refusal: Refusal, now: Mono) -> Vec<Action> {
        let poll = self.poll;
        let Some(server) = self.pool.get(id) else {
            return Vec::new();
        };
        match refusal {
            Refusal::Kiss(KissCode::RateExceeded) => {
                server.rate_limited(now, poll);
                vec![Action::Log(format!(
                    "{} asks for fewer requests",
                    server.address
                ))]
            }
            Refusal::Kiss(KissCode::AccessDenied) => {
                server.denied();
                let line = format!(
                    "{} denies us service; it is not asked again",
                    server.address
                );
                vec![Action::Log(line)]
            }
            _ => Vec::new(),
        }
    }

    /// A server's answer passed every check.
    pub fn on_sample(&mut self, id: ServerId, sample: Sample, moment: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.discipline.advance(moment.now);
        let corrected = self.discipline.corrected();
        let Some(server) = self.pool.get(id) else {
            return actions;
        };
        server.filter.push(sample, corrected);
        server.answered(moment.now);
        self.decide(Some((id, sample)), moment, &mut actions);
        actions
    }

    /// Someone else moved the clock by `jump` nanoseconds (or the machine slept): start over.
    pub fn on_jump(&mut self, jump: i64, moment: Moment) -> Vec<Action> {
        self.discipline.advance(moment.now);
        self.discipline.stepped(jump);
        self.pool.start_over(moment.now);
        self.phase = Phase::Deciding;
        self.poll = MIN_POLL;
        let seconds = jump as f64 / SECOND as f64;
        let mut actions = vec![Action::Log(format!(
            "the clock was moved by {seconds:+.3} s, not by us; asking again"
        ))];
        self.lose(&mut actions, None);
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
            return self.on_powerless(&reason);
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

    fn on_powerless(&mut self, reason: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.powerless {
            self.powerless = true;
            let line = format!(
                "cannot correct the clock: {reason}; only measuring (CAP_SYS_TIME is needed)"
            );
            actions.push(Action::Log(line));
        }
        self.discipline.not_taken();
        self.state.synchronised = false;
        self.state.since = None;
        actions.push(Action::Publish(self.state.clone()));
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
        self.far = 0;
        self.decide(None, moment, actions);
    }

    fn on_steered(&mut self, steering: &Steering, moment: Moment, actions: &mut Vec<Action>) {
        self.bound = (moment.now, steering.bound);
        self.history = History::Synchronised;
        if self.phase == Phase::Deciding {
            self.phase = Phase::Settling {
                until: moment.now + SETTLE,
            };
        }
        let wall = moment.wall.seconds();
        self.state.frequency_ppb = Some((steering.correction.frequency * 1e9) as i64);
        self.state.first_since.get_or_insert(wall);
        if !self.state.synchronised {
            self.state.synchronised = true;
            self.state.since = Some(wall);
            let source = self.state.source.as_deref().unwrap_or("?");
            let bound = steering.bound as f64 / SECOND as f64;
            actions.push(Action::Log(format!(
                "synchronised to {source}, error at most {bound:.6} s"
            )));
            actions.push(Action::WriteRtc);
        }
        actions.push(Action::Publish(self.state.clone()));
    }

    /// Looks for a majority, and acts on it.
    fn decide(
        &mut self,
        newest: Option<(ServerId, Sample)>,
        moment: Moment,
        actions: &mut Vec<Action>,
    ) {
        let (ids, estimates) = self.pool.estimates(moment.now, self.discipline.corrected());
        let voters = match self.phase {
            Phase::Deciding => estimates.len() + self.pool.awaited(),
            Phase::Settling { .. } | Phase::Running => estimates.len(),
        };
        let Some(agreement) = select(&estimates, voters) else {
            self.on_discord(estimates.len(), moment.now, actions);
            return;
        };
        let truechimers: Vec<ServerId> = agreement
            .truechimers
            .iter()
            .filter_map(|index| ids.get(*index).copied())
            .collect();
        self.pool.judge(&ids, &truechimers, actions);
        let Some((best, estimate)) = truechimers.first().zip(
            agreement
                .truechimers
                .first()
                .and_then(|i| estimates.get(*i)),
        ) else {
            return;
        };
        self.describe(*best, estimate, &agreement, moment);
        if agreement.offset.unsigned_abs() >= limits::STEP
            && agreement.offset.unsigned_abs() > agreement.bound
        {
            self.consider_step(agreement.offset, moment, actions);
            return;
        }
        self.claim = None;
        self.far = 0;
        self.trouble = Trouble::None;
        let trusted = newest.filter(|(id, _)| truechimers.contains(id));
        self.follow(*best, &agreement, trusted, moment, actions);
    }

    /// The offset is small: let it steer the kernel.
    fn follow(
        &mut self,
        best: ServerId,
        agreement: &Agreement,
        newest: Option<(ServerId, Sample)>,
        moment: Moment,
        actions: &mut Vec<Action>,
    ) {
        match self.phase {
            Phase::Settling { until } if moment.now >= until => self.phase = Phase::Running,
            Phase::Deciding | Phase::Settling { .. } => {
                let sigma = self.pool.deviation(best);
                self.discipline.settle(agreement.offset, sigma);
                self.steer(agreement, actions);
                return;
            }
            Phase::Running => {}
        }
        let Some((id, sample)) = newest else { return };
        let sigma = self.pool.deviation(id);
        match self.discipline.measure(sample.offset, sigma, sample.delay) {
            Verdict::Spike => return,
            Verdict::Persistent => self.shorten_poll(MIN_POLL),
            Verdict::Accepted(_) => self.adapt_poll(sigma),
        }
        self.steer(agreement, actions);
    }

    fn steer(&mut self, agreement: &Agreement, actions: &mut Vec<Action>) {
        let correction = self.discipline.correction(self.poll);
        let leap = self.pool.leap();
        self.state.leap = match leap {
            LeapIndicator::LastMinuteHas61Seconds => Some("insert".to_owned()),
            LeapIndicator::LastMinuteHas59Seconds => Some("delete".to_owned()),
            LeapIndicator::NoWarning | LeapIndicator::AlarmCondition => None,
        };
        let bound = agreement.bound + correction.slew.unsigned_abs();
        self.state.error_bound_ns = Some(bound);
        actions.push(Action::Steer(Steering {
            correction,
            bound,
            leap,
        }));
    }

    /// The offset is too large to be slewed.
    fn consider_step(&mut self, offset: i64, moment: Moment, actions: &mut Vec<Action>) {
        self.far = self.far.saturating_add(1);
        if self.phase == Phase::Running && self.far < 3 {
            return;
        }
        let clocks = (moment.wall, moment.now);
        match limits::judge(offset, self.history, clocks, self.span, &mut self.claim) {
            Judgement::Step => {
                self.trouble = Trouble::None;
                actions.push(Action::Step(offset));
            }
            refused => {
                self.shorten_poll(MIN_POLL);
                if self.trouble != Trouble::Refused(refused) {
                    self.trouble = Trouble::Refused(refused);
                    actions.push(Action::Log(refusal_line(refused, offset)));
                }
                self.lose(actions, None);
            }
        }
    }

    fn on_discord(&mut self, speakers: usize, now: Mono, actions: &mut Vec<Action>) {
        if speakers < 2 || (self.phase == Phase::Deciding && self.pool.awaited() > 0) {
            return;
        }
        let since = match self.trouble {
            Trouble::NoMajority { since } => since,
            Trouble::None | Trouble::Refused(_) => {
                actions.push(Action::Log(format!(
                    "no majority among {speakers} servers; the clock is left alone"
                )));
                now
            }
        };
        self.trouble = Trouble::NoMajority { since };
        if now.saturating_sub(since) >= DISCORD {
            self.lose(actions, Some("servers disagree"));
        }
    }

    /// Synchronisation ends when the error can have become too large.
    fn doubt(&mut self, now: Mono, actions: &mut Vec<Action>) {
        let (at, bound) = self.bound;
        let grown = now.saturating_sub(at).as_secs_f64() * self.discipline.drift_bound();
        if bound + (grown * 1e9) as u64 > WORTHLESS {
            self.lose(actions, Some("no server for too long"));
        }
    }

    fn lose(&mut self, actions: &mut Vec<Action>, reason: Option<&str>) {
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

    fn describe(
        &mut self,
        best: ServerId,
        estimate: &Estimate,
        agreement: &Agreement,
        moment: Moment,
    ) {
        self.state.source = self.pool.get(best).map(|server| server.address.to_string());
        self.state.stratum = Some(estimate.stratum);
        self.state.offset_ns = Some(agreement.offset);
        self.state.error_bound_ns = Some(agreement.bound + agreement.offset.unsigned_abs());
        self.state.updated = Some(moment.wall.seconds());
    }

    fn adapt_poll(&mut self, sigma: f64) {
        let limit = POLL_ERROR.max(sigma.min(10e6) / 4e9);
        let error_at = |poll: u8| self.discipline.predicted(f64::from(1_u32 << poll));
        if error_at(self.poll) > 2.0 * limit {
            self.shorten_poll(self.poll - 1);
            return;
        }
        self.steady += 1;
        if self.steady >= 8 * self.pool.len().max(1)
            && self.poll < MAX_POLL
            && error_at(self.poll + 1) < limit
        {
            self.poll += 1;
            self.steady = 0;
        }
    }

    fn shorten_poll(&mut self, poll: u8) {
        self.steady = 0;
        if poll < self.poll {
            self.poll = poll.max(MIN_POLL);
        }
    }
}

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

fn refusal_line(refused: Judgement, offset: i64) -> String {
    let seconds = offset as f64 / SECOND as f64;
    match refused {
        Judgement::Impossible => {
            format!("servers ask for {seconds:+.3} s: refused, outside this build's lifetime")
        }
        Judgement::TooFar | Judgement::Step => format!(
            "servers ask for {seconds:+.3} s: too far, refused until a majority has insisted for {} s",
            limits::PERSISTENCE.as_secs()
        ),
    }
}
