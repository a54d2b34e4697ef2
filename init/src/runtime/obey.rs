//! Orders of the registry, carried out: launch, signal, kill; and what a launch leads to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gokrazy_core::paths;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::unistd::read;

use super::cgroup;
use super::clock;
use super::event_loop::{Runtime, Slot};
use super::identity;
use super::launch::{Launch, Launched};
use super::log_link::{Origin, Pipes};
use super::notify_socket::NotifySocket;
use super::queue::Source;
use crate::service::{Role, Service, User};
use crate::supervise::phase::{Action, Event};
use crate::supervise::registry::Order;

/// Most bytes of a child's report that are read at once: all that a pipe holds, so that no line is taken for two.
const REPORT_MAX: usize = 65_536;

/// So many descriptors no service gets; a quarter where there are few.
const RESERVED_DESCRIPTORS: u64 = 16;

impl Runtime {
    pub(super) fn obey(&mut self, orders: Vec<Order>) {
        self.ensure_slots();
        for Order { index, action } in orders {
            match action {
                Action::CheckConditions => {}
                Action::Launch { first } => self.launch(index, first),
                Action::Signal(signal) => {
                    self.signal_all(index, signal);
                    // One that was stopped (SIGSTOP) could not heed it.
                    self.signal_all(index, Signal::SIGCONT as i32);
                }
                Action::SignalStrays(signal) => {
                    if let Some(tree) = self.tree(index) {
                        tree.signal_strays(signal);
                        tree.signal_strays(Signal::SIGCONT as i32);
                    }
                }
                Action::SignalMain(signal) => self.signal_main_or_tell(index, signal),
                Action::KillTree => {
                    if let Some(tree) = self.tree(index) {
                        tree.kill();
                    }
                    self.signal_all(index, Signal::SIGKILL as i32);
                }
            }
        }
    }

    /// A child that has not come to make its group yet gets the signal itself, and heeds it when it unblocks signals.
    fn signal_all(&mut self, index: usize, signal: i32) {
        let in_group = self
            .tree(index)
            .is_some_and(|tree| tree.signal_group(signal).is_ok());
        if !in_group {
            self.signal_main_or_tell(index, signal);
        }
    }

    fn signal_main_or_tell(&mut self, index: usize, signal: i32) {
        if let Err(error) = self.signal_main(index, signal) {
            self.complain(index, &format!("signal {signal}: {error}"));
        }
    }

    /// Sends a signal to the main process, if there is one.
    pub(super) fn signal_main(&self, index: usize, signal: i32) -> io::Result<()> {
        let entry = self.registry.entries().get(index);
        let pid = entry.and_then(|entry| entry.machine.pid());
        pid.map_or(Ok(()), |pid| {
            gokrazy_sys::process::signal_process(pid, signal)
        })
    }

    fn launch(&mut self, index: usize, first: bool) {
        let event = match self.try_launch(index, first) {
            Ok(pid) => Event::Launched { pid },
            Err(why) => {
                self.complain(index, &why);
                Event::LaunchFailed(why)
            }
        };
        self.feed(index, event);
    }

    pub(super) fn complain(&mut self, index: usize, why: &str) {
        let name = self
            .registry
            .entries()
            .get(index)
            .map(|entry| entry.service.name.as_str());
        self.journal
            .warn(format_args!("{}: {why}", name.unwrap_or_default()));
    }

    fn try_launch(&mut self, index: usize, first: bool) -> Result<u32, String> {
        let entry = self
            .registry
            .entries()
            .get(index)
            .ok_or("no such service")?;
        let (service, command) = (entry.service.clone(), entry.command().to_vec());
        self.refresh_slot(index);
        self.spare_descriptors()?;
        let uid = self.prepare_slot(index, &service)?;
        let extra = self.log_keepers_end(&service)?;
        let slot = self.slots.get(index).ok_or("no such service")?;
        let launch = Launch {
            service: &service,
            command: &command,
            first,
            uid,
            environment: &self.environment,
            mode: self.options.mode,
            home_dir: &self.options.home_dir,
            notify: slot.notify.as_ref().map(NotifySocket::address),
            stdin: self.null(),
            pipes: slot.pipes.as_ref(),
            extra: extra.as_ref().map(AsFd::as_fd),
            group: slot.group.as_ref(),
            // The log keeper holds two descriptors of each service, as init does.
            open_files: self.open_files.filter(|_| service.role != Role::LogKeeper),
            tasks: service.limits.tasks.filter(|_| slot.limits_user),
            precedence: self.precedence,
            ignored_signals: self.ignored_signals,
        };
        let launched = launch.go()?;
        self.note_launch(index, launched)
    }

    /// Some descriptors are kept free for clients, state files and logd: a service that would take them has to wait.
    fn spare_descriptors(&self) -> Result<(), String> {
        let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return Ok(());
        };
        let reserve = RESERVED_DESCRIPTORS.min(limit / 4);
        // The kernel hands out the lowest number that is free.
        let free = self
            .null
            .try_clone()
            .map(|fd| u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX));
        match free {
            Ok(number) if number < limit.saturating_sub(reserve) => Ok(()),
            Ok(_) => Err(format!(
                "no descriptors left: {reserve} of {limit} are kept for init"
            )),
            Err(error) => Err(format!("no descriptors left: {error}")),
        }
    }

    fn note_launch(&mut self, index: usize, launched: Launched) -> Result<u32, String> {
        let Launched { pid, report } = launched;
        self.by_pid.insert(pid, index);
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let slot = self.slots.get_mut(index).ok_or("no such service")?;
        slot.main = Some(pid);
        slot.start_error = None;
        slot.is_prepared = false;
        slot.facts.started_at_ms = Some(clock::wall_ms());
        let heard = self.queue.add(&report, Source::Report(number)).is_ok();
        slot.report = Some(report);
        if !heard {
            // Nobody would tell us when to.
            self.end_of_hurry(index);
        }
        Ok(pid)
    }

    /// Sees to it that the service has its user, pipes, socket and group.
    fn prepare_slot(&mut self, index: usize, service: &Service) -> Result<u32, String> {
        let uid = match self.slots.get(index).and_then(|slot| slot.facts.uid) {
            Some(uid) => uid,
            None => self.user_of(index, service)?,
        };
        self.open_pipes(index, service)?;
        self.open_notify(index, service, uid)?;
        self.open_group(index, service);
        Ok(uid)
    }

    fn user_of(&mut self, index: usize, service: &Service) -> Result<u32, String> {
        let own = nix::unistd::geteuid();
        let wanted = self.identities.of(service)?;
        let uid = if identity::can_become(wanted) {
            wanted
        } else {
            own.as_raw()
        };
        if uid != wanted {
            self.unfenced(index, "own user");
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.facts.uid = Some(uid);
        }
        Ok(uid)
    }

    pub(super) fn keep_identities(&mut self) {
        if let Err(error) = self.identities.keep() {
            self.journal
                .warn(format_args!("write down who has which user: {error}"));
        }
    }

    fn unfenced(&mut self, index: usize, what: &str) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if !slot.facts.unfenced.iter().any(|known| known == what) {
            slot.facts.unfenced.push(what.to_owned());
            self.complain(index, &format!("runs without {what}: not to be had here"));
        }
    }

    fn open_pipes(&mut self, index: usize, service: &Service) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        if slot.pipes.is_none() && service.role != Role::LogKeeper {
            slot.pipes = Some(Pipes::new().map_err(|error| format!("make pipes: {error}"))?);
            self.log_link.add(Origin::Service(index));
        }
        Ok(())
    }

    fn open_notify(&mut self, index: usize, service: &Service, uid: u32) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let wanted = service.notify || service.watchdog.is_some();
        if !wanted || slot.notify.is_some() {
            return Ok(());
        }
        let path = self
            .options
            .run_dir
            .join(paths::NOTIFY_DIR)
            .join(&service.name);
        let said = |error| format!("open {}: {error}", path.display());
        let socket = NotifySocket::open(&path, uid).map_err(said)?;
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        self.queue
            .add(socket.fd(), Source::Notify(number))
            .map_err(said)?;
        slot.notify = Some(socket);
        Ok(())
    }

    fn open_group(&mut self, index: usize, service: &Service) {
        let made = self
            .groups
            .as_mut()
            .map(|root| root.group(&service.name, &service.limits));
        match made {
            Some(Ok((group, missing))) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.out_of_memory_kills = group.out_of_memory_kills();
                    slot.group = Some(group);
                }
                self.do_without(index, service, &missing);
            }
            Some(Err(error)) => self.complain(index, &format!("make its control group: {error}")),
            None => {
                let missing = cgroup::all(&service.limits);
                self.do_without(index, service, &missing);
            }
        }
    }

    /// Limits that no group can hold: the one of tasks is held by the user, where no other service shares it.
    fn do_without(&mut self, index: usize, service: &Service, missing: &[String]) {
        let own = nix::unistd::geteuid().as_raw();
        // That a group ends as a whole for want of memory is a part of its limit of memory.
        for limit in missing.iter().filter(|limit| *limit != "memory.oom.group") {
            let slot = self.slots.get_mut(index);
            let has_own_user = |slot: &&mut Slot| {
                service.user == User::Auto && slot.facts.uid.is_some_and(|uid| uid != own)
            };
            match slot.filter(has_own_user) {
                Some(slot) if limit == cgroup::TASKS => slot.limits_user = true,
                _ => self.unfenced(index, limit),
            }
        }
    }

    /// It could not join its group, which says nothing of it then, and holds none of its limits.
    fn do_without_group(&mut self, index: usize, why: &str) {
        if let Some(group) = self.slots.get_mut(index).and_then(|slot| slot.group.take()) {
            group.remove();
        }
        self.unfenced(index, &format!("control group ({why})"));
    }

    /// Logd gets a connection on which it is handed the pipes.
    fn log_keepers_end(&mut self, service: &Service) -> Result<Option<OwnedFd>, String> {
        if service.role != Role::LogKeeper {
            return Ok(None);
        }
        self.close_log_link();
        let slots = (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.pipes.is_some());
        let services = slots.map(|(index, _)| Origin::Service(index));
        let everything = [Origin::Init, Origin::Kernel].into_iter().chain(services);
        let end = self
            .log_link
            .renew(everything)
            .map_err(|error| format!("make a socket: {error}"))?;
        if let Some(socket) = self.log_link.socket() {
            let _ = self.queue.add(socket, Source::LogLink);
        }
        Ok(Some(end))
    }

    /// Reads what a child on its way reports; its end means that the program runs.
    pub(super) fn on_report(&mut self, index: usize) {
        let Some(report) = self
            .slots
            .get_mut(index)
            .and_then(|slot| slot.report.take())
        else {
            return;
        };
        let mut buffer = vec![0; REPORT_MAX];
        match read(&report, &mut buffer) {
            Ok(0) => {
                let slot = self.slots.get(index);
                // The end of a process closes the pipe as a program does.
                let runs = slot.is_some_and(|slot| slot.is_prepared && slot.start_error.is_none());
                self.queue.remove(&report);
                self.end_of_hurry(index);
                if runs {
                    self.feed(index, Event::Executed);
                }
            }
            Ok(length) => {
                let text =
                    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                for line in text.lines() {
                    self.on_report_line(index, line);
                }
                self.keep_report(index, report);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => self.keep_report(index, report),
            Err(_) => {
                self.queue.remove(&report);
                self.end_of_hurry(index);
            }
        }
    }

    /// The service's program goes at its own pace.
    fn end_of_hurry(&self, index: usize) {
        let main = self.slots.get(index).and_then(|slot| slot.main);
        if let Some((precedence, main)) = self.precedence.zip(main) {
            precedence.take_back(main);
        }
    }

    fn keep_report(&mut self, index: usize, report: OwnedFd) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.report = Some(report);
        }
    }

    fn on_report_line(&mut self, index: usize, line: &str) {
        let (Some(kind), Some(text)) = (line.get(..1), line.get(1..)) else {
            return;
        };
        match kind {
            "U" => self.unfenced(index, text),
            "G" => self.do_without_group(index, text),
            "X" => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.is_prepared = true;
                }
            }
            "F" => {
                // Told as the way in which the run ended.
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.start_error = Some(text.to_owned());
                }
            }
            _ => self.complain(index, text),
        }
    }
}
