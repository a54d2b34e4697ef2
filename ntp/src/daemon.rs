//! The loop: wait, ask the machine, obey.
//!
//! One thread waits in one `poll(2)`; only name lookups have threads of their own.
//! Tested as a process, by `tests/daemon.rs` and `tests/network.rs`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use gokrazy_core::atomic::ReplaceError;
use gokrazy_core::clock::ClockState;
use gokrazy_core::paths;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::action::{Action, Applied, Moment};
use crate::args::Config;
use crate::chance::{chance, nonce};
use crate::clocks;
use crate::discipline::LEARNED_RATE;
use crate::filter::Sample;
use crate::hardware::HardwareClock;
use crate::limits;
use crate::lock;
use crate::log::log;
use crate::machine::Machine;
use crate::names::{Spec, listed};
use crate::packet::Span;
use crate::report::Earlier;
use crate::resolve::Resolver;
use crate::server::ServerId;
use crate::start::{discipline, set_from_memory, sources};
use crate::store::{Drift, Store};
use crate::trusted::{TrustedClock, jump};
use crate::wall::Mono;
use crate::watch::{ClockSet, Signals, Watch, Wish};
use crate::wire::{Answer, Pending};

/// How often the time is saved, since power is usually pulled.
const SAVE_EVERY: Mono = Mono::from_secs(600);

/// Routes and leases come in swarms: wait this long for the rest.
const CALM: Mono = Mono::from_millis(50);

/// The daemon and all that it holds.
struct Daemon {
    span: Span,
    clock: TrustedClock,
    rtc: HardwareClock,
    dhcp: bool,
    configured: Vec<Spec>,
    store: Store,
    machine: Machine,
    pending: Vec<Pending>,
    resolver: Resolver,
    watch: Watch,
    signals: Signals,
    clock_set: ClockSet,
    _lock: Option<File>,
    save_at: Mono,
    saved_drift: Option<Drift>,
    calm_at: Option<Mono>,
    last: Moment,
    /// Sum of all steps, in nanoseconds.
    stepped: i64,
    /// What could not be written, so that it is told once.
    unwritable: Option<String>,
    unpublished: bool,
}

/// Keeps the clock right until a signal says to end.
///
/// # Errors
/// What the daemon cannot do without: signals, a socket pair, random numbers.
pub fn keep(config: &Config) -> Result<()> {
    let mut daemon = Daemon::start(config)?;
    while daemon.turn()? {}
    daemon.save(daemon.clock.moment());
    log("ended");
    Ok(())
}

impl Daemon {
    fn start(config: &Config) -> Result<Self> {
        let signals = Signals::new().context("take signals")?;
        let store = Store::new(config.state_dir.clone(), config.run_dir.clone());
        let lock = lock::take(&config.state_dir)?;
        let span = limits::span();
        set_from_memory(&store, config.rtc.as_deref(), span);
        let moment = clocks::moment();
        let discipline = discipline(&store, moment.now);
        let boot_id = std::fs::read_to_string(paths::BOOT_ID)
            .ok()
            .map(|id| id.trim().to_owned());
        let earlier = Earlier::of(store.clock().as_ref(), boot_id);
        let watch = Watch::new(&store.leases());
        let specs = sources(&store, config.dhcp, &config.servers);
        log(listed(&specs));
        let mut daemon = Self {
            span,
            clock: TrustedClock::default(),
            rtc: HardwareClock::new(config.rtc.clone()),
            dhcp: config.dhcp,
            configured: config.servers.clone(),
            saved_drift: store.drift(),
            machine: Machine::new(moment.now, span, discipline, specs, earlier),
            store,
            pending: Vec::new(),
            resolver: Resolver::new().context("prepare lookups")?,
            watch,
            signals,
            clock_set: ClockSet::new(),
            _lock: lock,
            save_at: moment.now + SAVE_EVERY,
            calm_at: None,
            last: moment,
            stepped: 0,
            unwritable: None,
            unpublished: false,
        };
        let state = daemon.machine.state().clone();
        daemon.publish(&state);
        Ok(daemon)
    }

    /// One turn of the loop; false if it was the last.
    fn turn(&mut self) -> Result<bool> {
        let changed = self.wait()?;
        self.clock_set.drain();
        let moment = self.clock.moment();
        // All answers are stamped with the same moment, before any of them costs time.
        let mut answers = self.receive(moment);
        let wish = self.signals.wish();
        if wish == Some(Wish::End) {
            return Ok(false);
        }
        if self.check_jump(moment)? {
            answers.clear();
        }
        if wish == Some(Wish::Renew) {
            log("SIGHUP: reading the leases and asking all servers anew");
            self.machine.on_renewal(moment.now);
            self.set_late_rtc();
            self.calm_at = Some(moment.now);
        }
        if changed {
            self.watch.drain();
            self.calm_at.get_or_insert(moment.now + CALM);
        }
        for (spec, addresses) in self.resolver.finished() {
            let actions = self.machine.on_names(&spec, &addresses, moment, chance());
            self.perform(actions)?;
        }
        let before = self.stepped;
        for (id, answer) in answers {
            // The answer before this one may have stepped the clock, and this one was measured against the old.
            let moved = self.stepped.saturating_sub(before);
            let moment = Moment {
                wall: moment.wall.shifted(moved),
                ..moment
            };
            let actions = match answer {
                Answer::Sample(sample) => {
                    let offset = sample.offset.saturating_sub(moved);
                    self.machine
                        .on_sample(id, Sample { offset, ..sample }, moment)
                }
                Answer::Refused(refusal) => self.machine.on_refused(id, Some(refusal), moment),
                Answer::Unreachable => self.machine.on_refused(id, None, moment),
                Answer::Nothing => Vec::new(),
            };
            self.perform(actions)?;
        }
        self.on_time(moment)?;
        Ok(true)
    }

    fn on_time(&mut self, moment: Moment) -> Result<()> {
        if self.calm_at.is_some_and(|at| at <= moment.now) {
            self.calm_at = None;
            let specs = sources(&self.store, self.dhcp, &self.configured);
            let actions = self.machine.on_sources(specs, moment.now);
            self.machine.on_network(moment.now);
            self.perform(actions)?;
        }
        if self.machine.deadline().is_some_and(|at| at <= moment.now) {
            let actions = self.machine.on_deadline(moment, &mut chance);
            self.perform(actions)?;
            if self.watch.arm() {
                self.calm_at = Some(moment.now);
            }
        }
        if self.save_at <= moment.now {
            self.save_at = moment.now + SAVE_EVERY;
            // Read anew: this turn may have set the clock back.
            self.save(self.clock.moment());
            self.set_late_rtc();
        }
        Ok(())
    }

    /// Sleeps until something is to be done; true if routes or leases changed.
    fn wait(&self) -> Result<bool> {
        let changes: Vec<_> = self.watch.descriptors().collect();
        let sockets = self.pending.iter().map(|pending| pending.socket.as_fd());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.signals.descriptor())
            .chain(changes.iter().copied())
            .chain(std::iter::once(self.resolver.bell().as_fd()))
            .chain(self.clock_set.descriptor())
            .chain(sockets)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for events"),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any() == Some(true);
        Ok(fds.iter().skip(1).take(changes.len()).any(is_ready))
    }

    fn timeout(&self) -> PollTimeout {
        let now = clocks::monotonic();
        let next = [self.machine.deadline(), self.calm_at, Some(self.save_at)];
        let wait = next
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.save_at)
            .saturating_sub(now);
        // Rounded up: a wake-up too early would find nothing to do.
        PollTimeout::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(PollTimeout::MAX)
    }

    fn receive(&mut self, moment: Moment) -> Vec<(ServerId, Answer)> {
        let span = self.span;
        let mut answers = Vec::new();
        self.pending
            .retain(|pending| match pending.receive(moment, span) {
                Answer::Nothing => true,
                answer => {
                    answers.push((pending.id, answer));
                    false
                }
            });
        answers
    }

    /// Whether someone else set the clock, or the machine slept, so that what was measured is void.
    fn check_jump(&mut self, moment: Moment) -> Result<bool> {
        let last = std::mem::replace(&mut self.last, moment);
        let Some(jump) = jump(last, moment) else {
            return Ok(false);
        };
        self.pending.clear();
        let actions = self.machine.on_jump(jump, moment);
        self.perform(actions)?;
        Ok(true)
    }

    fn perform(&mut self, actions: Vec<Action>) -> Result<()> {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Send(id, address) => {
                    self.pending.retain(|pending| pending.id != id);
                    match Pending::send(id, address, nonce()?) {
                        Ok(mut pending) => {
                            pending.moved(self.clock.owed());
                            self.pending.push(pending);
                        }
                        Err(error) => {
                            let now = clocks::monotonic();
                            queue.extend(self.machine.on_unsent(id, &error.to_string(), now));
                        }
                    }
                }
                Action::Forget(id) => self.pending.retain(|pending| pending.id != id),
                Action::Resolve(spec) => self.resolve(spec, &mut queue),
                Action::Step(offset) => {
                    let result = self.step(offset).map_err(|error| error.to_string());
                    queue.extend(self.machine.on_applied(
                        Applied::Step(offset),
                        result,
                        self.clock.moment(),
                    ));
                }
                Action::Steer(steering) => {
                    let result = clocks::steer(&steering).map_err(|error| error.to_string());
                    queue.extend(self.machine.on_applied(
                        Applied::Steer(steering),
                        result,
                        self.clock.moment(),
                    ));
                }
                Action::Publish(state) => self.publish(&state),
                Action::WriteRtc => {
                    self.rtc.set(self.clock.wall());
                    // Who pulls the power within ten minutes, each time, is to have a saved time as well.
                    self.save_at = Mono::ZERO;
                }
                Action::Log(line) => log(line),
            }
        }
        Ok(())
    }

    fn resolve(&mut self, spec: Spec, queue: &mut VecDeque<Action>) {
        if self.resolver.start(spec.clone()).is_err() {
            let moment = self.clock.moment();
            queue.extend(self.machine.on_names(&spec, &[], moment, chance()));
        }
    }

    fn step(&mut self, offset: i64) -> io::Result<()> {
        if self.clock.step(offset)? {
            log(
                "the kernel granted the step and did not do it; counting it as done (is this a sandbox?)",
            );
        }
        self.stepped = self.stepped.saturating_add(offset);
        // Not what was asked for but what is: the baseline for jumps by others.
        self.last = self.clock.moment();
        for pending in &mut self.pending {
            pending.moved(offset);
        }
        Ok(())
    }

    /// Sets a hardware clock that was not there as the clock became synchronised.
    fn set_late_rtc(&mut self) {
        if self.machine.state().synchronised {
            self.rtc.set_late(self.clock.wall());
        }
    }

    fn publish(&mut self, state: &ClockState) {
        let result = self.store.publish(state);
        if let Err(error) = &result
            && !self.unpublished
        {
            log(format_args!(
                "cannot publish the state of the clock: {error}: {}",
                error.io_error()
            ));
        }
        self.unpublished = result.is_err();
    }

    /// Saves time and drift; a disk that refuses is told of once, until it takes them again.
    fn save(&mut self, moment: Moment) {
        let synchronised = self.machine.state().synchronised;
        let result = self
            .store
            .save_time(moment.wall, synchronised)
            .and_then(|()| self.save_drift());
        let told = result
            .err()
            .map(|error: ReplaceError| format!("{error}: {}", error.io_error()));
        if told != self.unwritable {
            match &told {
                Some(reason) => log(format_args!("cannot save time and drift: {reason}")),
                None => log("time and drift can be saved again"),
            }
        }
        self.unwritable = told;
    }

    /// Keeps what is known of the oscillator, once it is better known than what is kept, or has changed.
    fn save_drift(&mut self) -> Result<(), ReplaceError> {
        if !self.machine.state().synchronised {
            return Ok(());
        }
        let discipline = self.machine.discipline();
        let drift = Drift {
            frequency: discipline.frequency(),
            deviation: discipline.frequency_deviation().max(LEARNED_RATE),
        };
        let is_news = match self.saved_drift {
            None => true,
            Some(saved) => {
                let changed = (saved.frequency - drift.frequency).abs() > 0.05e-6;
                (changed && discipline.frequency_is_known())
                    || drift.deviation < saved.deviation / 2.0
            }
        };
        if is_news {
            self.store.save_drift(&drift)?;
            self.saved_drift = Some(drift);
        }
        Ok(())
    }
}
