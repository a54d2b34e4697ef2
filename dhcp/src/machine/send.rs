//! What the machine sends in each state: the field rules of RFC 2131 table 5; pure.

use std::net::Ipv4Addr;

use super::{Action, Machine, Route, State, Turn};
use crate::exchange::Exchange;
use crate::message::{Kind, Request};

impl Machine {
    pub(super) fn discover(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Selecting(Exchange::new(turn.now, turn.chance));
        self.send_discover(turn);
    }

    pub(super) fn send_discover(&mut self, turn: &mut Turn<'_>) {
        if let State::Selecting(exchange) = &mut self.state {
            exchange.send(turn.now, turn.chance);
            let request = Request {
                requested: self.hint,
                ..blank(Kind::Discover, exchange.xid, exchange.secs())
            };
            if exchange.sent == 1 {
                turn.log("discovering".to_owned());
            }
            turn.act(Action::Send(
                request,
                Route::Broadcast(Ipv4Addr::UNSPECIFIED),
            ));
        }
    }

    pub(super) fn send_request(&mut self, turn: &mut Turn<'_>) {
        if let State::Requesting {
            follow,
            server,
            address,
        } = &mut self.state
        {
            follow.exchange.send(turn.now, turn.chance);
            let request = Request {
                requested: Some(*address),
                server: Some(*server),
                ..blank(Kind::Request, follow.exchange.xid, follow.secs)
            };
            turn.act(Action::Send(
                request,
                Route::Broadcast(Ipv4Addr::UNSPECIFIED),
            ));
        }
    }

    pub(super) fn reboot(&mut self, address: Ipv4Addr, turn: &mut Turn<'_>) {
        let exchange = Exchange::new(turn.now, turn.chance);
        self.state = State::Rebooting { exchange, address };
        turn.log(format!("asking whether {address} is still ours"));
        self.send_reboot(turn);
    }

    pub(super) fn send_reboot(&mut self, turn: &mut Turn<'_>) {
        if let State::Rebooting { exchange, address } = &mut self.state {
            exchange.send(turn.now, turn.chance);
            let request = Request {
                requested: Some(*address),
                ..blank(Kind::Request, exchange.xid, exchange.secs())
            };
            turn.act(Action::Send(
                request,
                Route::Broadcast(Ipv4Addr::UNSPECIFIED),
            ));
        }
    }

    pub(super) fn renew(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Renewing(Exchange::new(turn.now, turn.chance));
        if let Some(server) = self.grant().map(|grant| grant.terms.server) {
            turn.log(format!("asking {server} to renew"));
        }
        self.send_renew(turn);
    }

    pub(super) fn send_renew(&mut self, turn: &mut Turn<'_>) {
        if let (State::Renewing(exchange), Some(holding)) = (&mut self.state, &self.holding) {
            exchange.send_until(turn.now, holding.grant.timers.rebind);
            let terms = &holding.grant.terms;
            let request = Request {
                client: terms.ipv4.address,
                ..blank(Kind::Request, exchange.xid, exchange.secs())
            };
            turn.act(Action::Send(request, Route::Unicast(terms.server)));
        }
    }

    pub(super) fn rebind(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Rebinding(Exchange::new(turn.now, turn.chance));
        if let Some(server) = self.grant().map(|grant| grant.terms.server) {
            turn.log(format!(
                "{server} does not answer; asking any server to renew"
            ));
        }
        self.send_rebind(turn);
    }

    pub(super) fn send_rebind(&mut self, turn: &mut Turn<'_>) {
        if let (State::Rebinding(exchange), Some(holding)) = (&mut self.state, &self.holding) {
            exchange.send_until(turn.now, holding.grant.timers.expire);
            let client = holding.grant.terms.ipv4.address;
            let request = Request {
                client,
                ..blank(Kind::Request, exchange.xid, exchange.secs())
            };
            turn.act(Action::Send(request, Route::Broadcast(client)));
        }
    }
}

/// A message with nothing but its kind, transaction id and time.
pub(super) fn blank(kind: Kind, xid: u32, secs: u16) -> Request {
    Request {
        kind,
        xid,
        secs,
        client: Ipv4Addr::UNSPECIFIED,
        requested: None,
        server: None,
    }
}
