//! A simulated world: an oscillator, the kernel's loop, links, and servers that may lie; seeded, so repeatable.

use std::net::SocketAddr;
use std::time::Duration;

use gokrazy_core::clock::ClockState;
use gokrazy_ntp::action::{Action, Applied, Moment, Steering};
use gokrazy_ntp::discipline::Discipline;
use gokrazy_ntp::filter::Sample;
use gokrazy_ntp::machine::Machine;
use gokrazy_ntp::names::Spec;
use gokrazy_ntp::packet::{Refusal, Span};
use gokrazy_ntp::report::Earlier;
use gokrazy_ntp::server::ServerId;
use gokrazy_ntp::wall::Wall;
use rsntp::LeapIndicator;

/// Civil time at which every simulation starts.
pub(crate) const START: i64 = 1_795_000_000;

/// A generator of twenty lines, so that a failure repeats itself.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// From 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// What a server does with a request; times in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) lie: f64,
    pub(crate) delay: f64,
    pub(crate) jitter: f64,
    /// Extra time of the way there.
    pub(crate) uphill: f64,
    /// Most that an answer may be held up on its way back, by chance.
    pub(crate) queue: f64,
    pub(crate) silent: bool,
    /// Requests to it cannot leave.
    pub(crate) unsendable: bool,
    pub(crate) precision: f64,
    /// How coarse its clock is, whatever it says of its precision.
    pub(crate) coarse: f64,
    pub(crate) leap: LeapIndicator,
    pub(crate) refusal: Option<Refusal>,
    /// Root distance in nanoseconds.
    pub(crate) root: u64,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            lie: 0.0,
            delay: 0.005,
            jitter: 0.001,
            uphill: 0.0,
            queue: 0.0,
            silent: false,
            unsendable: false,
            precision: 1e-6,
            coarse: 0.0,
            leap: LeapIndicator::NoWarning,
            refusal: None,
            root: 500_000,
        }
    }
}

/// An answer under way.
struct Flight {
    arrives: f64,
    id: ServerId,
    index: usize,
    /// True time and our clock's error at sending.
    sent: f64,
    error: f64,
    /// True time at the server.
    there: f64,
    lie: f64,
    moved: f64,
}

pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) peers: Vec<Peer>,
    pub(crate) chance: Chance,
    /// Seconds since the start of the simulation.
    pub(crate) now: f64,
    /// How far the clock is behind, in seconds.
    pub(crate) error: f64,
    /// The oscillator's own error in s/s; positive: slow.
    pub(crate) oscillator: f64,
    /// Deviation of the oscillator's random walk in s/s per root of a second.
    pub(crate) wander: f64,
    pub(crate) kernel: f64,
    slew: f64,
    constant: i32,
    flights: Vec<Flight>,
    pub(crate) steps: Vec<(f64, f64)>,
    pub(crate) sent: Vec<(f64, usize)>,
    pub(crate) steered: Vec<Steering>,
    pub(crate) log: Vec<String>,
    pub(crate) published: ClockState,
    pub(crate) powerless: bool,
}

impl World {
    /// A world in which the clock is `error` seconds behind and the oscillator `oscillator` s/s slow.
    pub(crate) fn new(seed: u64, peers: Vec<Peer>, error: f64, oscillator: f64) -> Self {
        let specs = (0..peers.len())
            .map(|index| Spec::Address(address(index)))
            .collect();
        let span = Span {
            floor: Wall::from_seconds(START - 200 * 86_400),
            ceiling: Wall::from_seconds(START + 20 * 365 * 86_400),
        };
        let discipline = Discipline::new(Duration::ZERO, 0.0, None);
        Self {
            machine: Machine::new(Duration::ZERO, span, discipline, specs, Earlier::default()),
            peers,
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 0.0,
            error,
            oscillator,
            wander: 0.0,
            kernel: 0.0,
            slew: 0.0,
            constant: 0,
            flights: Vec::new(),
            steps: Vec::new(),
            sent: Vec::new(),
            steered: Vec::new(),
            log: Vec::new(),
            published: ClockState::default(),
            powerless: false,
        }
    }

    pub(crate) fn restart_as(&mut self, earlier: Earlier) {
        let specs = (0..self.peers.len())
            .map(|index| Spec::Address(address(index)))
            .collect();
        let span = Span {
            floor: Wall::from_seconds(START - 200 * 86_400),
            ceiling: Wall::from_seconds(START + 20 * 365 * 86_400),
        };
        let discipline =
            Discipline::new(Duration::from_secs_f64(self.now), self.kernel, Some(2e-6));
        let now = Duration::from_secs_f64(self.now);
        self.machine = Machine::new(now, span, discipline, specs, earlier);
        self.flights.clear();
    }

    pub(crate) fn moment(&self) -> Moment {
        let wall = self.now - self.error;
        let nanoseconds = (wall * 1e9) as i64;
        Moment {
            now: Duration::from_secs_f64(self.now),
            wall: Wall::from_seconds(START).shifted(nanoseconds),
        }
    }

    /// Lets the world go on until `end`, telling the error once a second.
    pub(crate) fn run(&mut self, end: f64, mut every_second: impl FnMut(&mut Self)) {
        while self.now < end {
            let second = self.now.floor() + 1.0;
            let deadline = self
                .machine
                .deadline()
                .map_or(f64::INFINITY, |at| at.as_secs_f64());
            let arrival = self
                .flights
                .iter()
                .map(|flight| flight.arrives)
                .fold(f64::INFINITY, f64::min);
            let next = second.min(deadline).min(arrival).max(self.now);
            self.pass(next - self.now);
            self.now = next;
            if next >= second {
                self.tick();
                every_second(self);
            }
            self.deliver();
            let due = self
                .machine
                .deadline()
                .is_some_and(|at| at.as_secs_f64() <= self.now + 1e-9);
            if due {
                let moment = Moment {
                    now: Duration::from_secs_f64(self.now + 1e-9),
                    ..self.moment()
                };
                let mut chance = self.chance.clone();
                let actions = self.machine.on_deadline(moment, &mut || chance.uniform());
                self.chance = chance;
                self.perform(actions);
            }
        }
    }

    fn pass(&mut self, seconds: f64) {
        let share = 0.5_f64.powi(2 + self.constant);
        // Within a second the kernel spreads that second's share evenly.
        self.error += (self.oscillator - self.kernel) * seconds - self.slew * share * seconds;
    }

    fn tick(&mut self) {
        let share = 0.5_f64.powi(2 + self.constant);
        self.slew -= self.slew * share;
        self.oscillator += self.wander * self.chance.normal();
    }

    fn deliver(&mut self) {
        let arrived: Vec<Flight> = {
            let (here, under_way) = self
                .flights
                .drain(..)
                .partition(|flight| flight.arrives <= self.now);
            self.flights = under_way;
            here
        };
        for flight in arrived {
            let Some(peer) = self.peers.get(flight.index).cloned() else {
                continue;
            };
            let actions = match peer.refusal {
                Some(refusal) => self
                    .machine
                    .on_refused(flight.id, Some(refusal), self.moment()),
                None => {
                    let sample = self.sample(&flight, &peer);
                    self.machine.on_sample(flight.id, sample, self.moment())
                }
            };
            self.perform(actions);
        }
    }

    fn sample(&self, flight: &Flight, peer: &Peer) -> Sample {
        let quantum = peer.precision.max(peer.coarse).max(1e-9);
        let server = ((flight.there + flight.lie) / quantum).floor() * quantum;
        let elapsed = flight.arrives - flight.sent;
        let read = flight.sent - flight.error;
        let offset = ((server - read) + (server - (read + elapsed))) / 2.0;
        Sample {
            at: Duration::from_secs_f64(self.now),
            offset: ((offset - flight.moved) * 1e9) as i64,
            delay: (elapsed * 1e9) as u64,
            root: peer.root,
            precision: (peer.precision * 1e9) as u64,
            stratum: 2,
            leap: peer.leap,
        }
    }

    pub(crate) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(id, to) => self.send(id, to),
                Action::Step(offset) => {
                    let result = self.refusal();
                    if result.is_ok() {
                        let seconds = offset as f64 / 1e9;
                        self.error -= seconds;
                        self.slew = 0.0;
                        self.steps.push((self.now, seconds));
                        for flight in &mut self.flights {
                            flight.moved += seconds;
                        }
                    }
                    let actions =
                        self.machine
                            .on_applied(Applied::Step(offset), result, self.moment());
                    self.perform(actions);
                }
                Action::Steer(steering) => {
                    let result = self.refusal();
                    if result.is_ok() {
                        self.kernel = steering.correction.frequency;
                        self.slew = steering.correction.slew as f64 / 1e9;
                        self.constant = i32::from(steering.correction.time_constant);
                        self.steered.push(steering);
                    }
                    let actions =
                        self.machine
                            .on_applied(Applied::Steer(steering), result, self.moment());
                    self.perform(actions);
                }
                Action::Publish(state) => self.published = state,
                Action::Log(line) => self.log.push(line),
                Action::Forget(_) | Action::Resolve(_) | Action::WriteRtc => {}
            }
        }
    }

    fn refusal(&self) -> Result<(), String> {
        if self.powerless {
            Err("Operation not permitted".to_owned())
        } else {
            Ok(())
        }
    }

    fn send(&mut self, id: ServerId, to: SocketAddr) {
        let index = usize::from(to.port()) - 1_000;
        self.sent.push((self.now, index));
        self.flights.retain(|flight| flight.id != id);
        let Some(peer) = self.peers.get(index).cloned() else {
            return;
        };
        if peer.unsendable {
            let now = self.moment().now;
            let actions = self.machine.on_unsent(id, "Network is unreachable", now);
            self.perform(actions);
            return;
        }
        if peer.silent {
            return;
        }
        let mut way = || peer.delay + peer.jitter * (2.0 * self.chance.uniform() - 1.0);
        let (out, back) = (way() + peer.uphill, way());
        let back = back + peer.queue * self.chance.uniform();
        self.flights.push(Flight {
            arrives: self.now + out + back,
            id,
            index,
            sent: self.now,
            error: self.error,
            there: self.now + out,
            lie: peer.lie,
            moved: 0.0,
        });
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.log.iter().filter(|line| line.contains(word)).count()
    }
}

pub(crate) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1_000 + index as u16))
}

/// The 95th percentile of sizes.
pub(crate) fn percentile_95(errors: &mut [f64]) -> f64 {
    errors.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    errors[errors.len() * 95 / 100].abs()
}
