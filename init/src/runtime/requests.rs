//! What clients ask at the control socket, taken in and answered.

use std::io;
use std::time::Duration;

use gokrazy_core::control::{Refusal, Reply, Request};
use gokrazy_core::{paths, users};

use super::clock;
use super::control_socket::{ControlSocket, Received};
use super::event_loop::Runtime;
use super::queue::Source;
use crate::service::Role;
use crate::supervise::phase::Action;
use crate::supervise::registry::Order;

/// How long a socket that could not be made waits for the next try: the run folder may be full.
const LISTEN_RETRY: Duration = Duration::from_secs(2);

impl Runtime {
    /// Listens for requests; where that cannot be had, as with a full run folder, it is tried again.
    pub(super) fn listen(&mut self) {
        let now = clock::boot();
        if self.control.is_some() || self.listen_again.is_some_and(|moment| now < moment) {
            return;
        }
        let path = self.options.run_dir.join(paths::CONTROL_SOCKET);
        let opened = ControlSocket::open(&path, self.options.mode).and_then(|socket| {
            self.queue.add(socket.fd(), Source::Control)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                self.control = Some(socket);
                self.listen_again = None;
            }
            Err(error) => {
                if self.listen_again.is_none() {
                    self.journal.warn(format_args!(
                        "listen at {}: {error}; trying again every {LISTEN_RETRY:?}",
                        path.display()
                    ));
                }
                self.listen_again = Some(now.saturating_add(LISTEN_RETRY));
            }
        }
    }

    /// Listens at a new socket if nobody finds the old one any more.
    pub(super) fn listen_where_found(&mut self) {
        let is_there = self.control.as_ref().is_some_and(ControlSocket::is_there);
        if !is_there {
            self.close_control();
            self.listen_again = None;
            self.listen();
        }
    }

    fn close_control(&mut self) {
        if let Some(mut control) = self.control.take() {
            self.queue.remove(control.fd());
            while let Some(client) = control.take_any_client() {
                self.queue.remove(client.fd());
            }
        }
    }

    pub(super) fn on_connection(&mut self) {
        let Some(control) = &mut self.control else {
            return;
        };
        if let Some(client) = control.accept() {
            let id = client.id;
            if self.queue.add(client.fd(), Source::Client(id)).is_err() {
                drop(control.take_client(id));
            }
        }
        let heaviest = self.control.as_ref().and_then(ControlSocket::one_too_many);
        if let Some(id) = heaviest {
            self.drop_client(id);
        }
    }

    fn drop_client(&mut self, id: u32) {
        let client = self
            .control
            .as_mut()
            .and_then(|control| control.take_client(id));
        if let Some(client) = client {
            self.queue.remove(client.fd());
        }
    }

    pub(super) fn on_client(&mut self, id: u32) {
        let received = self
            .control
            .as_ref()
            .map_or(Received::Gone, |control| control.receive(id));
        let reply = match received {
            Received::Nothing => return,
            Received::Gone => return self.drop_client(id),
            Received::Refused(refusal) => Reply::Refused(refusal),
            Received::Request { request, uid } => self.on_request(&request, uid),
        };
        let replied = self
            .control
            .as_ref()
            .is_some_and(|control| control.reply(id, &reply));
        // One that has no room for a reply does not read them.
        if !replied {
            self.drop_client(id);
        }
    }

    fn on_request(&mut self, request: &Request, uid: u32) -> Reply {
        let role_of = |name: &str| self.registry.find(name).map(|entry| entry.service.role);
        if is_beyond(request, uid, role_of) {
            return Reply::Refused(Refusal::NotPermitted);
        }
        if let Request::Divert { program, .. } = request
            && is_missing(program)
        {
            return Reply::Refused(Refusal::Failed(format!("there is no {program}")));
        }
        match self.registry.request(request, clock::boot()) {
            Err(refusal) => Reply::Refused(refusal),
            Ok(orders) => {
                if matches!(request, Request::Signal { .. }) {
                    return self.send_signals(&orders);
                }
                self.obey(orders);
                if let Request::End { how } = request {
                    self.begin_end(*how, "a client asks for it");
                }
                // Whoever got an answer finds the state files up to date.
                self.publish(None);
                Reply::Done
            }
        }
    }

    /// Who asks for a signal hears what came of it: an init that is not root may not send one to everybody.
    fn send_signals(&self, orders: &[Order]) -> Reply {
        let sent = orders.iter().try_for_each(|order| match order.action {
            Action::SignalMain(signal) => self.signal_main(order.index, signal),
            _ => Ok(()),
        });
        match sent {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Refused(Refusal::Failed(format!("send it: {error}"))),
        }
    }
}

/// Whether web asks for what only root may have: its own program in the place of a daemon of ours, some of which are
/// root, and all of which have capabilities. Who takes web over shall not become one of them.
fn is_beyond(request: &Request, uid: u32, role_of: impl Fn(&str) -> Option<Role>) -> bool {
    match request {
        Request::Divert { name, .. } if uid == users::WEB.id => {
            role_of(name).is_some_and(|role| role != Role::Application)
        }
        _ => false,
    }
}

/// Whether a path leads nowhere; a bare name is looked for at the start.
fn is_missing(program: &str) -> bool {
    program.contains('/')
        && std::fs::metadata(program).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_runs_nothing_in_the_place_of_our_daemons_and_root_may() {
        let roles = |name: &str| match name {
            "randomd" => Some(Role::System),
            "logd" => Some(Role::LogKeeper),
            "shop" => Some(Role::Application),
            _ => None,
        };
        let beyond = |name: &str, uid| {
            let request = Request::Divert {
                name: name.to_owned(),
                program: "/tmp/x".to_owned(),
                arguments: Vec::new(),
            };
            is_beyond(&request, uid, roles)
        };
        let web = users::WEB.id;
        assert!(beyond("randomd", web) && beyond("logd", web));
        assert!(!beyond("shop", web) && !beyond("new", web) && !beyond("randomd", 0));
        let name = "randomd".to_owned();
        assert!(!is_beyond(&Request::Restart { name }, web, roles));
    }
}
