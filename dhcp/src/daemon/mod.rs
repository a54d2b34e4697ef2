//! The loop: wait, ask, obey. One thread, one `poll(2)`, one screen of what can wake it.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gokrazy_core::exit;
use gokrazy_netlink::{Groups, Monitor};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::claim::{Claims, Holder};
use crate::client::Client;
use crate::config::{Config, Goal};
use crate::conflict::Check;
use crate::log::{Log, Verbosity};
use crate::moment::{Moment, earlier};
use crate::system::{self, Alarm};
use crate::vlans::Vlans;
use crate::world::{Outcome, World};

mod interfaces;

/// How long the last runs of `--on-change` may take before we leave.
const FAREWELL: Duration = Duration::from_secs(3);

/// How long an interface is waited for that another process manages, and how often we look.
const HANDOVER: Duration = Duration::from_secs(2);
const HANDOVER_PAUSE: Duration = Duration::from_millis(50);

/// The daemon.
struct Daemon {
    world: World,
    clients: Vec<Client>,
    vlans: Vlans,
    claims: Claims,
    monitor: Monitor,
    signals: SignalFd,
    alarm: Alarm,
    give_up_at: Option<Moment>,
    /// When the interfaces are listed again, since the kernel did not answer.
    relist_at: Option<Moment>,
}

/// What poll has found.
struct Ready {
    signals: bool,
    alarm: bool,
    links: bool,
    marks: bool,
    clients: HashSet<u32>,
}

/// Manages interfaces until told to stop, or until the goal is reached; returns the exit code.
///
/// # Errors
/// Something that it cannot work without is missing: privileges, or a kernel facility.
pub fn run(config: Config) -> Result<u8> {
    // What read the flags is a third of the program, and is done.
    gokrazy_sys::memory::forget_code();
    let verbosity = if config.verbose {
        Verbosity::Messages
    } else {
        Verbosity::Events
    };
    let log = Log { verbosity };
    let world = World::new(config, log)?;
    let signals = block_signals().context("block signals")?;
    // The monitor before the list, so that nothing falls between.
    let monitor = Monitor::open(Groups::Both).context("open netlink monitor")?;
    let give_up_at = match world.config.goal {
        Goal::Serve => None,
        Goal::Once(timeout) | Goal::Offer(timeout) => Some(system::now().after(timeout)),
    };
    let mut daemon = Daemon {
        vlans: Vlans::read(&world),
        claims: Claims::default(),
        world,
        clients: Vec::new(),
        monitor,
        signals,
        alarm: Alarm::new().context("create timer")?,
        give_up_at,
        relist_at: None,
    };
    daemon.begin()?;
    daemon.say_what_is_missing();
    daemon.serve()
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

impl Daemon {
    /// Lists the interfaces, once those that we must have are free: whoever had them may be just ending.
    fn begin(&mut self) -> Result<()> {
        let must_have = !self.world.config.interfaces.is_empty();
        let end = system::now().after(HANDOVER);
        while !must_have && let Err(holder) = self.claim_all_wired() {
            if system::now() >= end {
                bail!(
                    "all wired interfaces are managed by {holder}: stop it first, or choose others by --interface"
                );
            }
            std::thread::sleep(HANDOVER_PAUSE);
        }
        self.vlans.take_over(&mut self.world);
        self.list_links().context("list interfaces")?;
        while must_have && self.claims.has_refused() {
            if system::now() >= end {
                self.stop();
                bail!("stop the other dhcp first, or choose other interfaces by --interface");
            }
            std::thread::sleep(HANDOVER_PAUSE);
            self.list_links().context("list interfaces")?;
        }
        Ok(())
    }

    fn claim_all_wired(&mut self) -> Result<(), Holder> {
        match self.world.only_offer() {
            true => Ok(()),
            false => self.claims.take_all_wired(self.world.log),
        }
    }

    fn serve(&mut self) -> Result<u8> {
        loop {
            self.refresh_resolver();
            self.world.sync();
            if let Some(code) = self.goal_reached()? {
                self.say_farewell();
                return Ok(code);
            }
            let ready = self.wait()?;
            if ready.signals && self.on_signals()? {
                self.stop();
                return match self.world.config.goal {
                    Goal::Serve => Ok(exit::SUCCESS),
                    Goal::Once(_) => bail!("told to stop before an interface was configured"),
                    Goal::Offer(_) => bail!("told to stop before an address was offered"),
                };
            }
            if ready.links {
                self.on_links()?;
            }
            for client in &mut self.clients {
                if ready.clients.contains(&client.index) {
                    client.on_readable(&mut self.world);
                }
            }
            if ready.alarm {
                self.alarm.clear();
            }
            let now = system::now();
            if ready.marks || self.claims.deadline().is_some_and(|at| at <= now) {
                self.claims.answer(now);
            }
            if self.relist_at.is_some_and(|at| at <= now) {
                self.list_anew();
            }
            if self.world.hooks.deadline().is_some_and(|at| at <= now) {
                self.world.hooks.turn(now, self.world.log);
            }
            for client in &mut self.clients {
                if client.deadline().is_some_and(|at| at <= now) {
                    client.on_deadline(&mut self.world);
                }
            }
        }
    }

    fn wait(&mut self) -> Result<Ready> {
        let deadlines = self.clients.iter().map(Client::deadline);
        let own = earlier(self.give_up_at, self.world.hooks.deadline());
        let own = earlier(own, earlier(self.claims.deadline(), self.relist_at));
        let deadline = deadlines.fold(own, earlier);
        self.alarm.set(deadline).context("set timer")?;
        let own: [BorrowedFd<'_>; 3] = [
            self.signals.as_fd(),
            self.alarm.as_fd(),
            self.monitor.as_fd(),
        ];
        let theirs = self.clients.iter().flat_map(|client| {
            client
                .descriptors()
                .map(move |descriptor| (client.index, descriptor))
        });
        let (owners, descriptors): (Vec<u32>, Vec<BorrowedFd<'_>>) = theirs.unzip();
        let marks: Vec<BorrowedFd<'_>> = self.claims.descriptors().collect();
        let count = marks.len();
        let all = own.into_iter().chain(marks).chain(descriptors);
        let mut polled: Vec<PollFd<'_>> =
            all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let mut woken = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || woken.next().unwrap_or(false);
        let (signals, alarm, links) = (next(), next(), next());
        let marks = (0..count).fold(false, |any, _| next() | any);
        let clients = owners.into_iter().zip(woken).filter(|(_, woken)| *woken);
        Ok(Ready {
            signals,
            alarm,
            links,
            marks,
            clients: clients.map(|(index, _)| index).collect(),
        })
    }

    /// Whether it is time to stop.
    fn on_signals(&mut self) -> Result<bool> {
        while let Some(signal) = self.signals.read_signal().context("read signals")? {
            match i32::try_from(signal.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok())
            {
                Some(Signal::SIGTERM | Signal::SIGINT) => return Ok(true),
                Some(Signal::SIGUSR1 | Signal::SIGHUP) => {
                    for client in &mut self.clients {
                        client.renew(&mut self.world);
                    }
                }
                Some(Signal::SIGCHLD) => self.world.hooks.turn(system::now(), self.world.log),
                Some(_) | None => {}
            }
        }
        Ok(false)
    }

    fn refresh_resolver(&mut self) {
        if !std::mem::take(&mut self.world.resolver_changed) {
            return;
        }
        let mut ordered: Vec<&Client> = self.clients.iter().collect();
        ordered.sort_by_key(|client| client.metric());
        let mut contributions: Vec<_> =
            ordered.iter().map(|client| client.contribution()).collect();
        let ours: Vec<&str> = self
            .clients
            .iter()
            .map(|client| client.name.as_str())
            .collect();
        contributions.extend(self.world.publisher.others(&ours, system::now()));
        self.world.publisher.resolver(&contributions);
    }

    fn goal_reached(&mut self) -> Result<Option<u8>> {
        let outcome = self.world.outcome.take();
        match (self.world.config.goal, outcome) {
            (Goal::Serve, _) => Ok(None),
            // Who wants the RFC's timing gets its second announcement too, two seconds later; nobody else waits.
            (Goal::Once(_), Some(Outcome::Bound)) if self.must_announce() => {
                self.give_up_at = None;
                self.world.outcome = Some(Outcome::Bound);
                Ok(None)
            }
            (Goal::Once(_), Some(Outcome::Bound)) => Ok(Some(exit::SUCCESS)),
            (Goal::Offer(_), Some(Outcome::Offer(lease))) => {
                for client in &mut self.clients {
                    client.lower(&mut self.world);
                }
                io::stdout()
                    .write_all(lease.render().as_bytes())
                    .context("print the offer")?;
                Ok(Some(exit::SUCCESS))
            }
            (Goal::Once(timeout) | Goal::Offer(timeout), _) => {
                if self.give_up_at.is_none_or(|at| system::now() < at) {
                    return Ok(None);
                }
                let leaves = |client: &Client| client.leaves_lease(&self.world);
                let stands = self.clients.iter().any(leaves);
                self.stop();
                let seconds = timeout.as_secs();
                if stands {
                    bail!("no answer within {seconds} s; the lease of an earlier run stands")
                }
                bail!("no lease within {seconds} s")
            }
        }
    }

    fn must_announce(&self) -> bool {
        let full = self.world.config.check == Check::Full;
        full && self.clients.iter().any(Client::is_announcing)
    }

    fn stop(&mut self) {
        for client in &mut self.clients {
            client.stop(&mut self.world);
        }
        self.clients.clear();
        self.vlans.remove(&mut self.world);
        self.refresh_resolver();
        self.world.sync();
        self.say_farewell();
    }

    /// Lets the last runs of the command end, but not for ever.
    fn say_farewell(&mut self) {
        let end = system::now().after(FAREWELL);
        loop {
            self.world.hooks.turn(system::now(), self.world.log);
            let left = end.since(system::now());
            if self.world.hooks.is_idle() {
                return;
            }
            if left.is_zero() {
                return self.world.hooks.give_up(self.world.log);
            }
            let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut polled, left).is_err() {
                return;
            }
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }
}
