//! The client of DHCPv6 (RFC 8415) as a machine: settings alone, or one address, as routers demand; pure.
//!
//! ```text
//!   idle ──a router says "other"──► waiting ≤1 s ─► informing ──reply──► informed ──refresh time─┐
//!    ▲                                                  ▲──────────────────────────────────────┘
//!    ├──a router says "managed"──► waiting ≤1 s ─► soliciting ─► requesting ──reply──► bound
//!    │                                                  ▲             │ ten tries       │ T1
//!    │                                                  ├─────────────┘              renewing
//!    │                                                  └── the end ── rebinding ◄──T2──┘
//!    └──the link is back──► waiting ≤1 s ─► confirming ──"not on this link"──► soliciting, else bound
//!                                declining ◄── taken ── bound;  declining ─► waiting
//! ```
//!
//! What routers no longer say ends nothing that was granted; it is heeded when the client has to ask again.
//! Each path back to soliciting that a server can provoke at will goes through a wait that grows.
//! Reconfigure messages are not asked for, and not obeyed.

mod exchange;
mod lease;
mod receive;
mod vocabulary;

use std::net::Ipv6Addr;
use std::time::Duration;

use self::exchange::{Exchange, Pace};
pub use self::lease::Held;
use self::lease::hold;
pub use self::vocabulary::{Action, Advice};
use crate::message::v6::{Kind, Request};
use crate::moment::{Chance, Moment, earlier};

/// Most of the wait before the first message (`SOL_MAX_DELAY`, `INF_MAX_DELAY`, `CNF_MAX_DELAY`).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// `SOL_MAX_RT` and `INF_MAX_RT`, until a server says otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// `REQ_MAX_RC`.
const REQUESTS: u32 = 10;
/// `DEC_MAX_RC`.
const DECLINES: u32 = 4;
/// `CNF_MAX_RD`: who is not answered by then keeps what it has.
const CONFIRM_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Waiting(Moment),
    Informing(Exchange),
    Informed(Moment),
    Soliciting(Exchange, Option<Offer>),
    Requesting(Exchange, Offer),
    Bound,
    Confirming(Exchange, Moment),
    Renewing(Exchange),
    Rebinding(Exchange),
    Declining(Exchange, Ipv6Addr),
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
    solicit_most: Duration,
    inform_most: Duration,
    /// Refusals since the last grant.
    refusals: u32,
    /// Addresses that proved taken since the last one that was renewed.
    duplicates: u32,
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
            solicit_most: LONGEST_WAIT,
            inform_most: LONGEST_WAIT,
            refusals: 0,
            duplicates: 0,
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
            | State::Confirming(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange)
            | State::Declining(exchange, _) => Some(exchange.xid),
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
            | State::Rebinding(exchange)
            | State::Declining(exchange, _) => Some(exchange.next),
            State::Confirming(exchange, end) => Some(exchange.next.min(*end)),
            State::Bound => held.and_then(|held| held.renew),
            State::Renewing(exchange) => {
                earlier(Some(exchange.next), held.and_then(|held| held.rebind))
            }
        };
        earlier(own, held.and_then(|held| held.valid_until))
    }

    /// A router has spoken, or the link is back with what routers said last.
    pub fn on_advice(&mut self, advice: Advice, now: Moment, chance: &mut dyn Chance) {
        self.advice = advice;
        let begin = match &self.state {
            State::Idle => advice != Advice::None || self.held.is_some(),
            State::Informing(_) | State::Informed(_) => advice == Advice::Address,
            State::Waiting(_)
            | State::Soliciting(_, _)
            | State::Requesting(_, _)
            | State::Bound
            | State::Confirming(_, _)
            | State::Renewing(_)
            | State::Rebinding(_)
            | State::Declining(_, _) => false,
        };
        if begin {
            self.state = State::Waiting(now.after(chance.up_to(FIRST_WAIT)));
        }
    }

    /// The link is gone: an address holds on, and is asked about when the link is back; what belongs to the link
    /// alone is forgotten.
    pub fn on_link_down(&mut self) -> Vec<Action> {
        let actions = match self.held {
            Some(_) => Vec::new(),
            None => self.forget_settings(),
        };
        (self.advice, self.state) = (Advice::None, State::Idle);
        (self.solicit_most, self.inform_most) = (LONGEST_WAIT, LONGEST_WAIT);
        actions
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut actions = self.expire(now);
        let due = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= now);
        let (renew, rebind) = self
            .held
            .map_or((None, None), |held| (held.renew, held.rebind));
        match &self.state {
            State::Waiting(at) | State::Informed(at) if *at <= now => {
                self.begin(now, chance, &mut actions);
            }
            State::Soliciting(exchange, Some(offer)) if exchange.next <= now => {
                let offer = offer.clone();
                self.request(offer, now, chance, &mut actions);
            }
            State::Requesting(exchange, _) if exchange.next <= now && exchange.sent >= REQUESTS => {
                self.begin(now, chance, &mut actions);
            }
            State::Declining(exchange, _) if exchange.next <= now && exchange.sent >= DECLINES => {
                self.after_decline(now);
            }
            State::Confirming(_, end) if *end <= now => self.state = State::Bound,
            State::Bound | State::Renewing(_) if due(rebind) => {
                self.rebind(now, chance, &mut actions);
            }
            State::Bound if due(renew) => {
                self.state = State::Renewing(Exchange::new(Pace::RENEW, now, chance));
                self.send(now, chance, &mut actions);
            }
            State::Informing(exchange) if exchange.next <= now && self.advice == Advice::None => {
                self.begin(now, chance, &mut actions);
            }
            State::Soliciting(exchange, None)
                if exchange.next <= now && self.advice != Advice::Address =>
            {
                self.begin(now, chance, &mut actions);
            }
            State::Informing(exchange)
            | State::Soliciting(exchange, None)
            | State::Requesting(exchange, _)
            | State::Confirming(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange)
            | State::Declining(exchange, _)
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
            | State::Confirming(_, _)
            | State::Renewing(_)
            | State::Rebinding(_)
            | State::Declining(_, _) => {}
        }
        actions
    }

    /// Someone wants an answer now: more time for the address, or what is waited with.
    pub fn on_renew(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.state {
            State::Bound | State::Renewing(_) => {
                self.state = State::Renewing(Exchange::new(Pace::RENEW, now, chance));
                self.send(now, chance, &mut actions);
            }
            State::Waiting(_) | State::Informed(_) => self.begin(now, chance, &mut actions),
            State::Idle
            | State::Informing(_)
            | State::Soliciting(_, _)
            | State::Requesting(_, _)
            | State::Confirming(_, _)
            | State::Rebinding(_)
            | State::Declining(_, _) => {}
        }
        actions
    }

    /// The end; the address is given back if asked.
    pub fn on_stop(&mut self, release: bool, chance: &mut dyn Chance) -> Vec<Action> {
        let held = self.held.take();
        let message = held.filter(|_| release).map(|held| {
            let [_, a, b, c] = chance.draw().to_be_bytes();
            Request {
                kind: Kind::Release,
                xid: [a, b, c],
                elapsed: 0,
                server: Some(self.server.clone()),
                address: Some(held.address),
            }
        });
        *self = Self::default();
        let mut actions: Vec<Action> = message.map(Action::Send).into_iter().collect();
        actions.push(Action::Changed);
        actions
    }

    fn expire(&mut self, now: Moment) -> Vec<Action> {
        let over = |held: &Held| held.valid_until.is_some_and(|end| end <= now);
        let Some(held) = self.held.filter(over) else {
            return Vec::new();
        };
        self.held = None;
        if matches!(
            self.state,
            State::Bound | State::Confirming(_, _) | State::Renewing(_) | State::Rebinding(_)
        ) {
            self.state = State::Waiting(now);
        }
        let mut actions = vec![
            Action::Log(format!("lease of {} is over", held.address)),
            Action::Changed,
        ];
        actions.extend(self.forget_settings());
        actions
    }

    fn begin(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        self.state = match (self.held, self.advice) {
            // After unanswered requests to the server that had lost it.
            (Some(_), _) if matches!(self.state, State::Requesting(_, _)) => {
                State::Rebinding(Exchange::new(Pace::RENEW, now, chance))
            }
            // After a loss of the link: is the address still good here (RFC 8415 §18.2.12)?
            (Some(_), _) => {
                let exchange = Exchange::new(Pace::CONFIRM, now, chance);
                State::Confirming(exchange, now.after(CONFIRM_FOR))
            }
            (None, Advice::None) => {
                actions.extend(self.forget_settings());
                State::Idle
            }
            (None, Advice::Settings) => {
                State::Informing(Exchange::new(Pace::up_to(self.inform_most), now, chance))
            }
            (None, Advice::Address) => {
                let pace = Pace::up_to(self.solicit_most);
                State::Soliciting(Exchange::new(pace, now, chance), None)
            }
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
        self.state = State::Requesting(Exchange::new(Pace::REQUEST, now, chance), offer);
        self.send(now, chance, actions);
    }

    fn rebind(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        let line = "the DHCPv6 server does not answer; asking any server to renew";
        actions.push(Action::Log(line.to_owned()));
        self.state = State::Rebinding(Exchange::new(Pace::RENEW, now, chance));
        self.send(now, chance, actions);
    }

    fn send(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        let held = self.held.map(|held| held.address);
        let ours = || Some(self.server.clone());
        let (exchange, kind, server, address) = match &mut self.state {
            State::Informing(exchange) => (exchange, Kind::Information, None, None),
            State::Soliciting(exchange, _) => (exchange, Kind::Solicit, None, None),
            State::Requesting(exchange, offer) => {
                let server = Some(offer.server.clone());
                (exchange, Kind::Request, server, Some(offer.address))
            }
            State::Confirming(exchange, _) => (exchange, Kind::Confirm, None, held),
            State::Renewing(exchange) => (exchange, Kind::Renew, ours(), held),
            State::Rebinding(exchange) => (exchange, Kind::Rebind, None, held),
            State::Declining(exchange, taken) => (exchange, Kind::Decline, ours(), Some(*taken)),
            State::Idle | State::Waiting(_) | State::Informed(_) | State::Bound => return,
        };
        match kind {
            Kind::Solicit if exchange.sent == 0 => exchange.send_and_collect(now, chance),
            _ => exchange.send(now, chance),
        }
        actions.push(Action::Send(Request {
            kind,
            xid: exchange.xid,
            elapsed: exchange.elapsed(now),
            server,
            address,
        }));
    }

    fn forget_settings(&mut self) -> Vec<Action> {
        let had = !self.dns.is_empty() || !self.search.is_empty();
        self.dns.clear();
        self.search.clear();
        had.then_some(Action::Changed).into_iter().collect()
    }
}

#[cfg(test)]
#[path = "machine6_tests.rs"]
mod tests;
