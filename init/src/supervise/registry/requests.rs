//! What clients ask of services; pure.

use gokrazy_core::control::{Refusal, Request};

use super::{Order, Registry};
use crate::service::{INIT_LOG, KERNEL_LOG, Role, Service, is_name, signals};
use crate::supervise::Moment;
use crate::supervise::phase::{Action, Event};

/// Most services that clients may make.
const MADE_BY_REQUEST_MAX: usize = 64;

impl Registry {
    /// Does what a client asks, or says why not; [`Request::End`] is the caller's.
    ///
    /// # Errors
    /// Why the request is turned down.
    pub fn request(&mut self, request: &Request, now: Moment) -> Result<Vec<Order>, Refusal> {
        if self.is_ending() {
            return Err(Refusal::ShuttingDown);
        }
        match request {
            Request::Start { name } => Ok(self.on(self.index(name)?, Event::Start, now)),
            Request::Stop { name } => self.stop(name, now),
            Request::Restart { name } => Ok(self.on(self.index(name)?, Event::Restart, now)),
            Request::Signal { name, signal } => self.signal(name, signal),
            Request::Divert {
                name,
                program,
                arguments,
            } => self.divert(name, program, arguments, now),
            Request::End { .. } => Ok(Vec::new()),
        }
    }

    fn index(&self, name: &str) -> Result<usize, Refusal> {
        let index = self.by_name.get(name).copied();
        let is_here = |index: &usize| self.entries.get(*index).is_some_and(|entry| !entry.is_gone);
        index.filter(is_here).ok_or(Refusal::NoSuchService)
    }

    fn stop(&mut self, name: &str, now: Moment) -> Result<Vec<Order>, Refusal> {
        let index = self.index(name)?;
        match self.entries.get(index).map(|entry| entry.service.role) {
            Some(Role::LogKeeper) => {
                let why = format!("{name} keeps the output of all others: restart it instead");
                Err(Refusal::Failed(why))
            }
            Some(Role::Application | Role::Networked | Role::System) | None => {
                Ok(self.on(index, Event::Stop, now))
            }
        }
    }

    fn signal(&self, name: &str, signal: &str) -> Result<Vec<Order>, Refusal> {
        let index = self.index(name)?;
        let number = signals::parse(signal)
            .ok_or_else(|| Refusal::Malformed(format!("unknown signal `{signal}`")))?;
        let runs = self
            .entries
            .get(index)
            .is_some_and(|entry| entry.machine.pid().is_some());
        if runs {
            Ok(vec![Order {
                index,
                action: Action::SignalMain(number),
            }])
        } else {
            Err(Refusal::Failed(format!("{name} does not run")))
        }
    }

    fn divert(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
        now: Moment,
    ) -> Result<Vec<Order>, Refusal> {
        if !program.starts_with('/') {
            return Err(Refusal::Malformed(format!(
                "`{program}` is no absolute path"
            )));
        }
        if !is_name(name) {
            return Err(Refusal::Malformed(format!("`{name}` is no service's name")));
        }
        let is_new = self.find(name).is_none();
        self.may_be_made(name)?;
        // Nothing if one of that name was there and went.
        self.add(Service::new(name, &[program]), now);
        let index = self.by_name.get(name).copied().unwrap_or(usize::MAX);
        if let Some(entry) = self.entries.get_mut(index) {
            entry.is_made_by_request |= is_new;
            entry.is_gone = false;
            let arguments = arguments.iter().cloned();
            entry.diverted = Some(
                std::iter::once(program.to_owned())
                    .chain(arguments)
                    .collect(),
            );
        }
        Ok(self.on(index, Event::Restart, now))
    }

    /// Whether a client may have a service of that name, be it a new one.
    fn may_be_made(&self, name: &str) -> Result<(), Refusal> {
        if [INIT_LOG, KERNEL_LOG].contains(&name) {
            let why = format!("`{name}` is a log, and no service may have its name");
            return Err(Refusal::Failed(why));
        }
        let made = self.entries.iter().filter(|entry| entry.is_made_by_request);
        if !self.by_name.contains_key(name) && made.count() >= MADE_BY_REQUEST_MAX {
            let why = format!(
                "{MADE_BY_REQUEST_MAX} services were made by requests already: divert one of them, or put `{name}` \
                 into a table"
            );
            return Err(Refusal::Failed(why));
        }
        Ok(())
    }
}
