//! The loop: wait, hand what happened to the registry, obey its orders.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gokrazy_core::control::End;
use gokrazy_core::paths;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::cgroup::{self, Group};
use super::clock;
use super::conditions::Conditions;
use super::console::Console;
use super::control_socket::ControlSocket;
use super::devices::{AddressWatch, Devices};
use super::identity::Identities;
use super::journal::Journal;
use super::log_link::{LogLink, Pipes};
use super::mounts::{self, Watched};
use super::notify_socket::NotifySocket;
use super::options::{Mode, Options};
use super::publish::{self, Facts};
use super::queue::{Queue, Source};
use super::start::{self, Precedence};
use crate::machine::button::Button;
use crate::machine::cables::Cables;
use crate::machine::page_line::PageLine;
use crate::machine::watchdog::Watchdog;
use crate::service::Service;
use crate::supervise::Moment;
use crate::supervise::registry::{Order, Registry};

/// How long state files that could not be written wait for the next try: the run folder may be full.
const PUBLISH_RETRY: Duration = Duration::from_secs(2);

/// How long state files are written in a turn.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(1);

/// The supervisor at work.
#[derive(Debug)]
pub struct Runtime {
    pub(super) options: Options,
    pub(super) registry: Registry,
    pub(super) slots: Vec<Slot>,
    pub(super) by_pid: HashMap<u32, usize>,
    pub(super) queue: Queue,
    pub(super) journal: Journal,
    pub(super) log_link: LogLink,
    pub(super) conditions: Conditions,
    pub(super) identities: Identities,
    pub(super) groups: Option<cgroup::Root>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) open_files: Option<(u64, u64)>,
    pub(super) precedence: Option<Precedence>,
    pub(super) ignored_signals: u64,
    pub(super) null: OwnedFd,
    pub(super) kernel_log: Option<File>,
    pub(super) devices: Devices,
    pub(super) addresses: Option<AddressWatch>,
    pub(super) page_line: PageLine,
    pub(super) cables: Cables,
    pub(super) mounts: Vec<Watched>,
    pub(super) console: Console,
    pub(super) buttons: Vec<Button>,
    signals: SignalFd,
    pub(super) control: Option<ControlSocket>,
    pub(super) listen_again: Option<Moment>,
    end: Option<End>,
    publish_again: Option<Moment>,
}

/// What the shell holds of one service.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) facts: Facts,
    pub(super) pipes: Option<Pipes>,
    pub(super) notify: Option<NotifySocket>,
    pub(super) report: Option<OwnedFd>,
    pub(super) start_error: Option<String>,
    /// Whether its process came as far as becoming its program.
    pub(super) is_prepared: bool,
    pub(super) group: Option<Group>,
    pub(super) is_stale: bool,
    pub(super) main: Option<u32>,
    pub(super) out_of_memory_kills: u64,
    /// Whether its limit of tasks is its user's.
    pub(super) limits_user: bool,
}

impl Runtime {
    /// Prepares to supervise `services`; what cannot be had is logged and done without.
    ///
    /// # Errors
    /// What nothing works without: the event queue, signals, `/dev/null`.
    pub fn new(
        options: Options,
        services: Vec<Service>,
        mut journal: Journal,
        devices: Devices,
    ) -> io::Result<Self> {
        let signals = start::take_signals()?;
        let queue = Queue::new()?;
        queue.add(&signals, Source::Signals)?;
        let null = start::nothing()?;
        let open_files = start::raise_open_files(options.mode);
        let ignored_signals = gokrazy_sys::process::ignored_signals();
        let precedence = start::take_precedence();
        for folder in [paths::SERVICE_DIR, paths::NOTIFY_DIR] {
            if let Err(error) = publish::folder(&options.run_dir.join(folder), 0o755) {
                journal.warn(format_args!(
                    "make {}: {error}",
                    options.run_dir.join(folder).display()
                ));
            }
        }
        publish::sweep(&options.run_dir);
        let groups = cgroup::Root::open(&options.run_dir)
            .map_err(|why| journal.warn(format_args!("no control groups, hence no limits: {why}")))
            .ok();
        let now = clock::boot();
        let mut runtime = Self {
            registry: Registry::new(services, now),
            slots: Vec::new(),
            by_pid: HashMap::new(),
            log_link: LogLink::new(now),
            conditions: Conditions::default(),
            identities: Identities::open(&options.home_dir),
            environment: start::environment(),
            kernel_log: start::open_kernel_log(options.mode),
            devices,
            addresses: None,
            page_line: PageLine::default(),
            cables: Cables::default(),
            mounts: Vec::new(),
            console: Console::default(),
            buttons: Vec::new(),
            control: None,
            listen_again: None,
            end: None,
            publish_again: None,
            options,
            queue,
            journal,
            groups,
            open_files,
            precedence,
            ignored_signals,
            null,
            signals,
        };
        runtime.watch_devices();
        runtime.guard_mounts();
        runtime.watch_console();
        Ok(runtime)
    }

    /// Supervises until the end is asked for and everything has stopped; returns how the machine's run ends, and the
    /// devices, for there is a watchdog to look after until then.
    pub fn run(mut self) -> (End, Devices) {
        let now = clock::boot();
        for order in self.registry.boot(now) {
            self.obey(vec![order]);
            self.hear_of_starts();
        }
        // Children that boot left to us and that ended before we listened for it.
        self.reap();
        // What ran once, reading flags and tables, makes up most of the program; waiting needs little of it.
        gokrazy_sys::memory::forget_code();
        while !self.registry.has_ended() {
            self.turn();
        }
        self.publish(None);
        self.journal.info("all services have stopped");
        if self.options.mode == Mode::Guest
            && let Some(groups) = &self.groups
        {
            groups.remove();
        }
        (self.end.unwrap_or(End::PowerOff), self.devices)
    }

    /// Takes in which children run their programs by now, so that those on their way come before what programs do to
    /// begin with: that takes longer than the way, and they have our precedence until we hear of it.
    fn hear_of_starts(&mut self) {
        for source in self.queue.wait(Some(Duration::ZERO)) {
            if let Source::Report(_) = source {
                self.dispatch(source);
            }
        }
    }

    fn turn(&mut self) {
        self.look_at_conditions();
        let now = clock::boot();
        let orders = self.registry.on_time(now);
        self.obey(orders);
        if !self.registry.is_ending() {
            self.look_after_mounts(now);
        }
        if let Some(watchdog) = &mut self.devices.watchdog {
            watchdog.feed(now);
        }
        self.publish(Some(PUBLISH_PATIENCE));
        if !self.registry.has_changes() || self.publish_again.is_some() {
            // Whoever can ask finds every service's state.
            self.listen();
        }
        self.keep_identities();
        self.hand_over_logs();
        if self.registry.has_ended() {
            return;
        }
        let limit = self
            .deadline()
            .map(|deadline| deadline.saturating_sub(clock::boot()));
        for source in self.queue.wait(limit) {
            self.dispatch(source);
        }
    }

    fn deadline(&self) -> Option<Moment> {
        let watchdog = self.devices.watchdog.as_ref().and_then(Watchdog::deadline);
        let mounts = mounts::deadline(&self.mounts).filter(|_| !self.registry.is_ending());
        let unpublished = self.registry.has_changes() && self.publish_again.is_none();
        let others = [
            unpublished.then_some(Moment::ZERO),
            self.conditions.deadline(),
            self.publish_again,
            self.listen_again,
            watchdog,
            mounts,
        ];
        others
            .into_iter()
            .flatten()
            .chain(self.registry.deadline())
            .min()
    }

    fn dispatch(&mut self, source: Source) {
        let index = |number| usize::try_from(number).unwrap_or(usize::MAX);
        match source {
            Source::Signals => self.on_signals(),
            Source::Control => self.on_connection(),
            Source::Client(id) => self.on_client(id),
            Source::Report(number) => self.on_report(index(number)),
            Source::Notify(number) => self.on_notify(index(number)),
            Source::LogLink => self.on_log_link(),
            Source::Addresses => self.on_addresses(),
            Source::Devices => self.on_devices(),
            Source::Console => self.on_console(),
            Source::Buttons => self.on_buttons(),
        }
    }

    fn on_signals(&mut self) {
        let mut reap = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok())
            {
                Some(Signal::SIGCHLD) => reap = true,
                Some(Signal::SIGHUP) => {
                    self.on_addresses();
                    self.listen_where_found();
                    self.reload();
                }
                Some(signal) => self.on_end_signal(signal),
                None => {}
            }
        }
        if reap {
            self.reap();
        }
    }

    fn on_end_signal(&mut self, signal: Signal) {
        self.begin_end(
            start::end_of(signal),
            &format!("signal {}", signal.as_str().trim_start_matches("SIG")),
        );
    }

    pub(super) fn begin_end(&mut self, end: End, why: &str) {
        if self.registry.is_ending() {
            return;
        }
        let what = match self.options.mode {
            Mode::Machine => end.as_str(),
            Mode::Guest => "exit",
        };
        self.journal
            .info(format_args!("stopping all services, then {what}: {why}"));
        self.end = Some(end);
        let orders = self
            .registry
            .begin_shutdown(self.options.shutdown_limit, clock::boot());
        self.obey(orders);
    }

    fn look_at_conditions(&mut self) {
        let now = clock::boot();
        let due = self
            .conditions
            .deadline()
            .is_none_or(|deadline| deadline <= now);
        if !due {
            return;
        }
        let awaited = self.registry.awaited();
        let (run_dir, name) = (&self.options.run_dir, &self.options.online_name);
        for condition in self.conditions.look(&awaited, run_dir, name, now) {
            let orders = self.registry.set_condition(&condition, true, now);
            self.obey(orders);
            // Whoever waits for it later looks anew: a route that was there may be gone by then.
            let none = self.registry.set_condition(&condition, false, now);
            self.obey(none);
        }
    }

    /// Brings the state files up to date, or as many as can be in about `patience`; what cannot be written is tried
    /// again.
    ///
    /// On a disk a file takes a thousand times as long as in memory, and what happens to services does not wait.
    pub(super) fn publish(&mut self, patience: Option<Duration>) {
        let now = clock::boot();
        if self.publish_again.is_some_and(|moment| now < moment) {
            return;
        }
        while let Some(index) = self.registry.take_changed() {
            self.ensure_slots();
            if self
                .registry
                .entries()
                .get(index)
                .is_some_and(|entry| entry.is_gone)
            {
                self.forget(index);
            }
            let facts = self.slots.get(index).map(|slot| &slot.facts);
            let Some(status) =
                facts.and_then(|facts| publish::status(&self.registry, index, facts))
            else {
                continue;
            };
            if let Err(error) = publish::write(&self.options.run_dir, &status) {
                if self.publish_again.is_none() {
                    let source = error.io_error();
                    self.journal.warn(format_args!(
                        "{error}: {source}; trying again every {PUBLISH_RETRY:?}"
                    ));
                }
                self.registry.mark_changed(index);
                self.publish_again = Some(now.saturating_add(PUBLISH_RETRY));
                return;
            }
            self.publish_again = None;
            if patience.is_some_and(|patience| clock::boot().saturating_sub(now) > patience) {
                return;
            }
        }
    }

    pub(super) fn null(&self) -> std::os::fd::BorrowedFd<'_> {
        self.null.as_fd()
    }

    pub(super) fn ensure_slots(&mut self) {
        let count = self.registry.entries().len();
        self.slots
            .resize_with(count.max(self.slots.len()), Slot::default);
    }

    pub(super) fn feed(&mut self, index: usize, event: crate::supervise::phase::Event) {
        self.feed_at(index, event, clock::boot());
    }

    /// What happened at `moment`.
    pub(super) fn feed_at(
        &mut self,
        index: usize,
        event: crate::supervise::phase::Event,
        moment: Moment,
    ) {
        let orders: Vec<Order> = self.registry.on(index, event, moment);
        self.obey(orders);
    }
}
