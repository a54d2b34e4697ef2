//! The client of RFC 2131 as a machine: events in, actions out, no clock, no socket; pure.
//!
//! ```text
//!            ┌────────────── carrier lost ── any state ─► no link
//!            │                                              │ carrier
//!            │                    lease remembered          ▼          nothing remembered
//!            │              rebooting ◄─────────────────────┴──────────────► selecting ◄─┐
//!            │               │  │  └─ silence: selecting                       │   ▲      │
//!            │           NAK │  │ ACK                     rapid ACK     OFFER  │   │60 s  │
//!            │               ▼  ▼                      ◄───────────────────────┤   │      │
//!            │    waiting ◄──┼─ probing ◄──── ACK ──────────────── requesting ◄┘───┘      │
//!            │      ▲ │      │     │  └ conflict: DECLINE, waiting    │ NAK: waiting      │
//!            │      │ └──────┼─────┼──────────────────────────────────┼───────────────────┤
//!            │      │        │     ▼                                                      │
//!            └──────┼────────┼── bound ──T1──► renewing ──T2──► rebinding ──the end───────┘
//!                   └─ NAK, lost address ──────┘ ▲ └── ACK ─────────┘
//! ```
//!
//! Invariants:
//! - what is configured (`holding`) outlives an exchange: it ends by expiry, NAK, conflict or stop, never because a
//!   server is silent or the carrier went away, and its end is acted on in every state;
//! - bound, renewing and rebinding have a holding;
//! - a reply counts only with the transaction id of the exchange in progress, and in a state that waits for its kind;
//! - each path back to selecting that a server or another host can provoke at will goes through a wait that grows.

mod receive;
mod send;
mod vocabulary;

use std::net::Ipv4Addr;

use self::send::blank;
pub use self::vocabulary::{Action, Ending, Event, Memory, Profile, Reason, Route};
use crate::conflict::{Claim, Step, Watch};
use crate::exchange::{Continued, Exchange};
use crate::frame::Arp;
use crate::message::{Kind, Request};
use crate::moment::{Chance, Moment, earlier};
use crate::terms::Grant;

/// Requests that go unanswered before the client starts over: at 0, 4, 12 and 28 s, given up at 60 s.
const REQUESTS: u32 = 4;
/// Requests in rebooting: at 0 and 4 s, given up at 12 s, since a server that never heard of us stays silent.
const REBOOT_REQUESTS: u32 = 2;
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    NoLink,
    Waiting(Moment),
    Selecting(Exchange),
    Requesting {
        follow: Continued,
        server: Ipv4Addr,
        address: Ipv4Addr,
    },
    Rebooting {
        exchange: Exchange,
        address: Ipv4Addr,
    },
    Probing {
        grant: Box<Grant>,
        claim: Claim,
    },
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
    Stopped,
}

/// What is configured in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holding {
    grant: Grant,
    claim: Claim,
    /// Whether the log tells of another host that claims the address; one that goes on is told of once.
    contested: bool,
    /// Whether the link was another one since the address was tried: someone there may have it.
    untried: bool,
}

/// The client of one interface.
#[derive(Debug, Clone)]
pub struct Machine {
    profile: Profile,
    state: State,
    holding: Option<Holding>,
    /// Address and end of a lease to verify when the link comes.
    remembered: Option<(Ipv4Addr, Option<Moment>)>,
    /// Address to suggest in a DISCOVER.
    hint: Option<Ipv4Addr>,
    /// A server that offered too late, which goes first if the one that was chosen fails.
    rival: Option<Ipv4Addr>,
    /// NAKs without a long time between two of them, and when the last one came.
    naks: u32,
    refused_at: Option<Moment>,
    /// Conflicts since the last address that proved free.
    conflicts: u32,
}

/// One event's time, chance and results.
struct Turn<'a> {
    now: Moment,
    chance: &'a mut dyn Chance,
    actions: Vec<Action>,
}

impl Turn<'_> {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn log(&mut self, line: String) {
        self.actions.push(Action::Log(line));
    }
}

impl Machine {
    /// A client without a link; what `memory` holds is verified when it comes.
    pub fn new(profile: Profile, memory: Memory, now: Moment) -> Self {
        let mut machine = Self {
            profile,
            state: State::NoLink,
            holding: None,
            remembered: None,
            hint: None,
            rival: None,
            naks: 0,
            refused_at: None,
            conflicts: 0,
        };
        match memory {
            _ if !profile.remember => {}
            Memory::None => {}
            Memory::Former(address) => machine.hint = Some(address),
            Memory::Lease(address, end) => machine.remembered = Some((address, end)),
            Memory::Held(grant) => {
                machine.remembered = Some((grant.terms.ipv4.address, grant.timers.expire));
                let mut claim = Claim::hold(grant.terms.ipv4.address, now);
                claim.rest();
                machine.holding = Some(Holding {
                    grant: *grant,
                    claim,
                    contested: false,
                    untried: true,
                });
            }
        }
        machine
    }

    /// The transaction id that replies must carry now, if any are awaited.
    pub fn awaited(&self) -> Option<u32> {
        match &self.state {
            State::Selecting(exchange)
            | State::Rebooting { exchange, .. }
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange.xid),
            State::Requesting { follow, .. } => Some(follow.exchange.xid),
            State::NoLink
            | State::Waiting(_)
            | State::Probing { .. }
            | State::Bound
            | State::Stopped => None,
        }
    }

    /// The address that ARP must be watched for, if any.
    pub fn claimed(&self) -> Option<Watch> {
        match &self.state {
            State::Probing { claim, .. } => Some(claim.watch()),
            State::NoLink | State::Stopped => None,
            State::Waiting(_)
            | State::Selecting(_)
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Bound
            | State::Renewing(_)
            | State::Rebinding(_) => self.holding.as_ref().map(|holding| holding.claim.watch()),
        }
    }

    /// The lease in force.
    pub fn grant(&self) -> Option<&Grant> {
        self.holding.as_ref().map(|holding| &holding.grant)
    }

    /// Whether the address in use is still to be announced.
    pub fn is_announcing(&self) -> bool {
        let holding = self.holding.as_ref();
        holding.is_some_and(|holding| holding.claim.is_announcing())
    }

    /// Whether the client looks for a server while nothing is configured.
    pub fn is_searching(&self) -> bool {
        let idle = matches!(
            self.state,
            State::NoLink | State::Stopped | State::Probing { .. }
        );
        self.holding.is_none() && !idle
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        let holding = self.holding.as_ref();
        let timers = holding.map(|holding| holding.grant.timers);
        let own = match &self.state {
            State::Stopped => return None,
            State::NoLink => None,
            State::Waiting(until) => Some(*until),
            State::Selecting(exchange) | State::Rebooting { exchange, .. } => Some(exchange.next),
            State::Requesting { follow, .. } => Some(follow.exchange.next),
            State::Probing { claim, .. } => claim.deadline(),
            State::Bound => timers.and_then(|timers| timers.renew),
            State::Renewing(exchange) => {
                earlier(Some(exchange.next), timers.and_then(|timers| timers.rebind))
            }
            // The last step towards the end is the lease's end itself.
            State::Rebinding(exchange) => Some(exchange.next),
        };
        let announce = match self.state {
            State::NoLink | State::Stopped => None,
            _ => holding.and_then(|holding| holding.claim.deadline()),
        };
        earlier(
            own,
            earlier(announce, timers.and_then(|timers| timers.expire)),
        )
    }

    /// What follows from an event at `now`.
    pub fn on(&mut self, event: Event, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut turn = Turn {
            now,
            chance,
            actions: Vec::new(),
        };
        if self.state == State::Stopped {
            return turn.actions;
        }
        match event {
            Event::LinkUp => self.link_up(&mut turn),
            Event::LinkDown => self.link_down(),
            Event::Reply(reply) => self.reply(reply, &mut turn),
            Event::Arp(arp) => self.arp(&arp, &mut turn),
            Event::Deadline => self.time(&mut turn),
            Event::Renew => self.renew_now(&mut turn),
            Event::Stop(ending) => self.stop(ending, &mut turn),
        }
        turn.actions
    }

    fn link_up(&mut self, turn: &mut Turn<'_>) {
        if self.expire_if_over(turn) {
            return self.discover(turn);
        }
        let end_is_ahead = |end: Option<Moment>| end.is_none_or(|end| end > turn.now);
        // Who hides does not tell one network of the address that another one gave.
        match self.remembered.filter(|_| self.profile.remember) {
            Some((address, end)) if end_is_ahead(end) => self.reboot(address, turn),
            Some(_) | None => self.discover(turn),
        }
    }

    fn link_down(&mut self) {
        if let State::Probing { grant, .. } = &self.state {
            self.remembered = Some((grant.terms.ipv4.address, grant.timers.expire));
        }
        if let Some(holding) = &mut self.holding {
            holding.claim.rest();
            holding.untried = true;
        }
        (self.rival, self.state) = (None, State::NoLink);
    }

    fn time(&mut self, turn: &mut Turn<'_>) {
        if self.expire_if_over(turn) {
            match self.state {
                State::Bound | State::Renewing(_) | State::Rebinding(_) => {
                    return self.discover(turn);
                }
                State::NoLink | State::Stopped => return,
                State::Waiting(_)
                | State::Selecting(_)
                | State::Requesting { .. }
                | State::Rebooting { .. }
                | State::Probing { .. } => {}
            }
        }
        if self.state != State::NoLink {
            self.announce_if_due(turn);
            self.state_deadline(turn);
        }
    }

    fn announce_if_due(&mut self, turn: &mut Turn<'_>) {
        if let Some(holding) = &mut self.holding
            && holding.claim.on_deadline(turn.now, turn.chance) == Step::Announce
        {
            let packet = Arp::announcement(self.profile.mac, holding.claim.address());
            turn.act(Action::Arp(packet));
        }
    }

    fn state_deadline(&mut self, turn: &mut Turn<'_>) {
        let timers = self.grant().map(|grant| grant.timers);
        let due = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= turn.now);
        match &self.state {
            State::NoLink | State::Stopped => {}
            State::Waiting(until) if *until <= turn.now => self.discover(turn),
            State::Selecting(exchange) if exchange.next <= turn.now => self.send_discover(turn),
            State::Requesting { follow, .. } if follow.exchange.next <= turn.now => {
                if follow.exchange.sent < REQUESTS {
                    self.send_request(turn);
                } else {
                    turn.log("no answer to our request; discovering again".to_owned());
                    self.discover(turn);
                }
            }
            State::Rebooting { exchange, address } if exchange.next <= turn.now => {
                if exchange.sent < REBOOT_REQUESTS {
                    self.send_reboot(turn);
                } else {
                    self.hint = Some(*address);
                    turn.log(format!("nobody confirms {address}; discovering"));
                    self.discover(turn);
                }
            }
            State::Probing { .. } => self.probe(turn),
            State::Bound if due(timers.and_then(|timers| timers.rebind)) => self.rebind(turn),
            State::Bound if due(timers.and_then(|timers| timers.renew)) => self.renew(turn),
            State::Renewing(_) if due(timers.and_then(|timers| timers.rebind)) => self.rebind(turn),
            State::Renewing(exchange) if exchange.next <= turn.now => self.send_renew(turn),
            State::Rebinding(exchange) if exchange.next <= turn.now => self.send_rebind(turn),
            State::Waiting(_)
            | State::Selecting(_)
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Bound
            | State::Renewing(_)
            | State::Rebinding(_) => {}
        }
    }

    fn renew_now(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Bound | State::Renewing(_) | State::Rebinding(_) => self.renew(turn),
            State::Waiting(_) | State::Selecting(_) => self.discover(turn),
            State::NoLink
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Probing { .. }
            | State::Stopped => {}
        }
    }

    fn stop(&mut self, ending: Ending, turn: &mut Turn<'_>) {
        if ending == Ending::Leave {
            self.state = State::Stopped;
            return;
        }
        if let Some(holding) = self.holding.take() {
            let terms = &holding.grant.terms;
            if ending == Ending::Release && self.state != State::NoLink {
                let request = Request {
                    client: terms.ipv4.address,
                    server: Some(terms.server),
                    ..blank(Kind::Release, turn.chance.draw(), 0)
                };
                turn.act(Action::Send(request, Route::Unicast(terms.server)));
                turn.log(format!("released {}", terms.ipv4.address));
            }
            turn.act(Action::Withdraw(Reason::Stopped));
        }
        if ending == Ending::Release {
            turn.act(Action::Forget);
        }
        self.state = State::Stopped;
    }

    /// Removes the lease if it is over, and says whether it did.
    fn expire_if_over(&mut self, turn: &mut Turn<'_>) -> bool {
        let over = self.grant().is_some_and(|grant| grant.is_over(turn.now));
        if over && let Some(holding) = self.holding.take() {
            let address = holding.grant.terms.ipv4.address;
            self.hint = self.profile.remember.then_some(address);
            self.remembered = None;
            turn.log(format!("lease of {address} is over"));
            turn.act(Action::Withdraw(Reason::Expired));
        }
        over
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
