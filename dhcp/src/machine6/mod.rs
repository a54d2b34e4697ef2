//! The client of DHCPv6 (RFC 8415) as a machine: settings alone, or one address, as routers demand; pure.
//!
//! ```text
//!   idle ──a router says "other"──► waiting ≤1 s ─► informing ──reply──► informed ──refresh time─┐
//!    ▲                                                  ▲──────────────────────────────────────┘
//!    └──a router says "managed"──► waiting ≤1 s ─► soliciting ─► requesting ──reply──► bound
//!                                                       ▲             │ ten tries       │ T1
//!                                                       ├─────────────┘              renewing
//!                                                       └── the end ── rebinding ◄──T2──┘
//! ```
//!
//! Reconfigure messages are not asked for, and not obeyed.

mod exchange;
mod lease;
mod vocabulary;

use std::net::Ipv6Addr;
use std::time::Duration;

use self::exchange::Exchange;
pub use self::lease::Held;
use self::lease::hold;
pub use self::vocabulary::{Action, Advice};
use crate::message::v6::{Kind, Reply, Request};
use crate::moment::{Chance, Moment, earlier};

/// Most of the wait before the first message (`SOL_MAX_DELAY`, `INF_MAX_DELAY`).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// `REQ_MAX_RC`.
const REQUESTS: u32 = 10;
/// `IRT_DEFAULT` and `IRT_MINIMUM`: when settings are asked for again.
const REFRESH: u32 = 86_400;
const REFRESH_LEAST: u32 = 600;
/// Wait after an address proved taken.
const DECLINE_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Waiting(Moment),
    Informing(Exchange),
    Informed(Moment),
    Soliciting(Exchange, Option<Offer>),
    Requesting(Exchange, Offer),
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    server: Vec<u8>,
    preference: u8,
    address: Ipv6Addr,
}

/// The client of one interface.
#[derive(Debug, Clone)]
pub struct Machine6 {
    advice: Advice,
    state: State,
    held: Option<Held>,
    server: Vec<u8>,
    dns: Vec<Ipv6Addr>,
    search: Vec<String>,
}

impl Default for Machine6 {
    fn default() -> Self {
        Self {
            advice: Advice::None,
            state: State::Idle,
            held: None,
            server: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
        }
    }
}

impl Machine6 {
    /// The address in use.
    pub fn address(&self) -> Option<Held> {
        self.held
    }

    /// DNS servers.
    pub fn dns(&self) -> &[Ipv6Addr] {
        &self.dns
    }

    /// Search list.
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// The transaction id that replies must carry now, if any are awaited.
    pub fn awaited(&self) -> Option<[u8; 3]> {
        match &self.state {
            State::Informing(exchange)
            | State::Soliciting(exchange, _)
            | State::Requesting(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange.xid),
            State::Idle | State::Waiting(_) | State::Informed(_) | State::Bound => None,
        }
    }

    /// When [`Machine6::on_deadline`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        let held = self.held.as_ref();
        let own = match &self.state {
            State::Idle => None,
            State::Waiting(at) | State::Informed(at) => Some(*at),
            State::Informing(exchange)
            | State::Soliciting(exchange, _)
            | State::Requesting(exchange, _)
            | State::Rebinding(exchange) => Some(exchange.next),
            State::Bound => held.and_then(|held| held.renew),
            State::Renewing(exchange) => {
                earlier(Some(exchange.next), held.and_then(|held| held.rebind))
            }
        };
        earlier(own, held.and_then(|held| held.valid_until))
    }

    /// A router has spoken.
    pub fn on_advice(&mut self, advice: Advice, now: Moment, chance: &mut dyn Chance) {
        let more = match (self.advice, advice) {
            (Advice::None, Advice::Settings | Advice::Address) => true,
            (Advice::Settings, Advice::Address) => true,
            // What routers no longer say does not end what was granted.
            (_, Advice::None) | (Advice::Address, _) | (Advice::Settings, Advice::Settings) => {
                false
            }
        };
        if more {
            self.advice = advice;
            self.state = State::Waiting(now.after(chance.up_to(FIRST_WAIT)));
        }
    }

    /// The link is gone: what was granted holds on, and will be asked for again.
    pub fn on_link_down(&mut self) {
        self.advice = Advice::None;
        self.state = State::Idle;
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut actions = self.expire(now);
        let due = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= now);
        let (renew, rebind) = self
            .held
            .map_or((None, None), |held| (held.renew, held.rebind));
        match &self.state {
            State::Waiting(at) if *at <= now => self.begin(now, chance, &mut actions),
            State::Informed(at) if *at <= now => self.begin(now, chance, &mut actions),
            State::Soliciting(exchange, Some(offer)) if exchange.next <= now => {
                let offer = offer.clone();
                self.request(offer, now, chance, &mut actions);
            }
            State::Requesting(exchange, _) if exchange.next <= now && exchange.sent >= REQUESTS => {
                self.begin(now, chance, &mut actions);
            }
            State::Bound if due(rebind) => self.rebind(now, chance, &mut actions),
            State::Renewing(_) if due(rebind) => self.rebind(now, chance, &mut actions),
            State::Bound if due(renew) => {
                self.state = State::Renewing(Exchange::new(10, 600, now, chance));
                self.send(now, chance, &mut actions);
            }
            State::Informing(exchange)
            | State::Soliciting(exchange, _)
            | State::Requesting(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange)
                if exchange.next <= now =>
            {
                self.send(now, chance, &mut actions);
            }
            State::Idle
            | State::Waiting(_)
            | State::Informing(_)
            | State::Informed(_)
            | State::Soliciting(_, _)
            | State::Requesting(_, _)
            | State::Bound
            | State::Renewing(_)
            | State::Rebinding(_) => {}
        }
        actions
    }

    /// Takes a server's message.
    pub fn on_reply(&mut self, reply: Reply, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.awaited() != Some(reply.xid) {
            return actions;
        }
        match (&mut self.state, reply.is_advertisement) {
            (State::Informing(_), false) => {
                let refresh = reply.refresh.unwrap_or(REFRESH).max(REFRESH_LEAST);
                self.state = State::Informed(now.after(Duration::from_secs(refresh.into())));
                self.settings(reply, &mut actions);
            }
            (State::Soliciting(exchange, best), true) => {
                let Some(granted) = reply.granted else {
                    return actions;
                };
                let offer = Offer {
                    server: reply.server,
                    preference: reply.preference,
                    address: granted.address,
                };
                // Within the first wait the best is collected; after it, and at the highest preference, taken.
                let at_once = exchange.sent > 1 || offer.preference == 255;
                if best
                    .as_ref()
                    .is_none_or(|best| best.preference < offer.preference)
                {
                    *best = Some(offer.clone());
                }
                if at_once {
                    self.request(offer, now, chance, &mut actions);
                }
            }
            (State::Requesting(_, offer), false) if offer.server == reply.server => {
                self.granted(reply, now, chance, &mut actions);
            }
            (State::Renewing(_) | State::Rebinding(_), false) => {
                self.granted(reply, now, chance, &mut actions);
            }
            (
                State::Idle
                | State::Waiting(_)
                | State::Informing(_)
                | State::Informed(_)
                | State::Soliciting(_, _)
                | State::Requesting(_, _)
                | State::Bound
                | State::Renewing(_)
                | State::Rebinding(_),
                _,
            ) => {}
        }
        actions
    }

    /// The kernel found another host with our address.
    pub fn on_duplicate(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let Some(held) = self.held.take() else {
            return Vec::new();
        };
        self.state = State::Waiting(now.after(DECLINE_WAIT));
        vec![
            Action::Log(format!(
                "{} is in use by another host; declined",
                held.address
            )),
            Action::Send(self.farewell(Kind::Decline, held.address, chance)),
            Action::Changed,
        ]
    }

    /// The end; the address is given back if asked.
    pub fn on_stop(&mut self, release: bool, chance: &mut dyn Chance) -> Vec<Action> {
        let held = self.held.take();
        let message = held.filter(|_| release);
        let message = message.map(|held| self.farewell(Kind::Release, held.address, chance));
        *self = Self::default();
        let mut actions: Vec<Action> = message.map(Action::Send).into_iter().collect();
        actions.push(Action::Changed);
        actions
    }

    fn farewell(&self, kind: Kind, address: Ipv6Addr, chance: &mut dyn Chance) -> Request {
        let [_, a, b, c] = chance.draw().to_be_bytes();
        Request {
            kind,
            xid: [a, b, c],
            elapsed: 0,
            server: Some(self.server.clone()),
            address: Some(address),
        }
    }

    fn expire(&mut self, now: Moment) -> Vec<Action> {
        let over = |held: &Held| held.valid_until.is_some_and(|end| end <= now);
        let Some(held) = self.held.filter(over) else {
            return Vec::new();
        };
        self.held = None;
        if matches!(
            self.state,
            State::Bound | State::Renewing(_) | State::Rebinding(_)
        ) {
            self.state = State::Waiting(now);
        }
        vec![
            Action::Log(format!("lease of {} is over", held.address)),
            Action::Changed,
        ]
    }

    fn begin(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        self.state = match (self.advice, self.held) {
            (Advice::None, _) => State::Idle,
            (Advice::Settings, _) => State::Informing(Exchange::new(1, 3600, now, chance)),
            // After a loss of the link: is the address still good here?
            (Advice::Address, Some(_)) => State::Rebinding(Exchange::new(10, 600, now, chance)),
            (Advice::Address, None) => State::Soliciting(Exchange::new(1, 3600, now, chance), None),
        };
        self.send(now, chance, actions);
    }

    fn request(
        &mut self,
        offer: Offer,
        now: Moment,
        chance: &mut dyn Chance,
        actions: &mut Vec<Action>,
    ) {
        self.state = State::Requesting(Exchange::new(1, 30, now, chance), offer);
        self.send(now, chance, actions);
    }

    fn rebind(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        self.state = State::Rebinding(Exchange::new(10, 600, now, chance));
        self.send(now, chance, actions);
    }

    fn send(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        let held = self.held.map(|held| held.address);
        let (exchange, kind, server, address) = match &mut self.state {
            State::Informing(exchange) => (exchange, Kind::Information, None, None),
            State::Soliciting(exchange, _) => (exchange, Kind::Solicit, None, None),
            State::Requesting(exchange, offer) => (
                exchange,
                Kind::Request,
                Some(offer.server.clone()),
                Some(offer.address),
            ),
            State::Renewing(exchange) => (exchange, Kind::Renew, Some(self.server.clone()), held),
            State::Rebinding(exchange) => (exchange, Kind::Rebind, None, held),
            State::Idle | State::Waiting(_) | State::Informed(_) | State::Bound => return,
        };
        exchange.send(now, chance);
        actions.push(Action::Send(Request {
            kind,
            xid: exchange.xid,
            elapsed: exchange.elapsed(now),
            server,
            address,
        }));
    }

    fn granted(
        &mut self,
        reply: Reply,
        now: Moment,
        chance: &mut dyn Chance,
        actions: &mut Vec<Action>,
    ) {
        let Some(granted) = reply.granted else {
            // NotOnLink, NoBinding and the like: the server does not stand by it, so we ask anew, after a while.
            if self.held.take().is_some() {
                actions.push(Action::Changed);
            }
            self.state =
                State::Waiting(now.after(FIRST_WAIT.saturating_add(chance.up_to(FIRST_WAIT))));
            return;
        };
        let renewed = self
            .held
            .is_some_and(|held| held.address == granted.address);
        let verb = if renewed { "renewed" } else { "bound to" };
        actions.push(Action::Log(format!(
            "{verb} {}/128 for {} s",
            granted.address, granted.valid
        )));
        self.held = Some(hold(&granted, now));
        self.server.clone_from(&reply.server);
        self.state = State::Bound;
        self.settings(reply, actions);
        if !actions.contains(&Action::Changed) {
            actions.push(Action::Changed);
        }
    }

    fn settings(&mut self, reply: Reply, actions: &mut Vec<Action>) {
        if (&self.dns, &self.search) != (&reply.dns, &reply.search) {
            (self.dns, self.search) = (reply.dns, reply.search);
            actions.push(Action::Changed);
        }
    }
}

#[cfg(test)]
#[path = "machine6_tests.rs"]
mod tests;
