//! What the machine makes of replies and of other hosts' claims; pure.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::send::blank;
use super::{Action, Holding, Machine, Reason, Route, State, Turn};
use crate::conflict::{Check, Claim, Step, Verdict};
use crate::frame::Arp;
use crate::message::{Answer, Kind, Reply, Request};
use crate::terms::{Grant, Terms};

/// Wait after a DECLINE (RFC 2131 §3.1.5).
const DECLINE_WAIT: Duration = Duration::from_secs(10);
/// Wait once there were [`MANY_CONFLICTS`] (RFC 5227 §2.1.1).
const DECLINE_WAIT_LONG: Duration = Duration::from_secs(60);
const MANY_CONFLICTS: u32 = 10;
/// First wait after a second NAK; it doubles up to [`NAK_WAIT_MOST`].
const NAK_WAIT: Duration = Duration::from_secs(2);
const NAK_WAIT_MOST: Duration = Duration::from_secs(30 * 60);
/// `MIN_V6ONLY_WAIT` (RFC 8925 §3.4).
const IPV6_ONLY_LEAST: Duration = Duration::from_secs(300);
/// Most of that wait, so that a forged offer does not cut a machine off for good.
const IPV6_ONLY_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// After so long without a NAK the next one is news again; longer than [`NAK_WAIT_MOST`].
const NAK_MEMORY: Duration = Duration::from_secs(60 * 60);

/// Whom the exchange in progress asks.
enum Asked {
    /// Any server for an offer.
    Anyone,
    /// The server whose offer was taken.
    Server(Ipv4Addr),
    /// Any server, whether a remembered lease stands.
    Memory,
    /// The lease's server, or any, for more time.
    Renewal(Option<Ipv4Addr>),
}

impl Machine {
    pub(super) fn reply(&mut self, reply: Reply, turn: &mut Turn<'_>) {
        if self.awaited() != Some(reply.xid) {
            return;
        }
        let Reply {
            server,
            answer,
            rapid_commit,
            ipv6_only,
            ..
        } = reply;
        let ipv6_only = ipv6_only.filter(|_| self.profile.ipv6_only);
        let asked = match &self.state {
            State::Selecting(_) => Asked::Anyone,
            State::Requesting { server, .. } => Asked::Server(*server),
            State::Rebooting { .. } => Asked::Memory,
            State::Renewing(_) => Asked::Renewal(self.grant().map(|grant| grant.terms.server)),
            State::Rebinding(_) => Asked::Renewal(None),
            State::NoLink
            | State::Waiting(_)
            | State::Probing { .. }
            | State::Bound
            | State::Stopped => return,
        };
        match (asked, answer) {
            (Asked::Anyone, Answer::Offer(terms)) => self.offered(*terms, ipv6_only, turn),
            (Asked::Anyone, Answer::Ack(terms)) if rapid_commit && self.profile.rapid_commit => {
                self.granted(*terms, ipv6_only, turn);
            }
            (Asked::Server(chosen), Answer::Ack(terms)) if chosen == server => {
                self.granted(*terms, None, turn);
            }
            (Asked::Server(chosen), Answer::Offer(_)) if chosen != server => {
                self.rival = Some(server);
            }
            (Asked::Memory, Answer::Ack(terms)) => self.granted(*terms, ipv6_only, turn),
            (Asked::Renewal(_), Answer::Ack(terms)) => self.granted(*terms, None, turn),
            (Asked::Server(chosen), Answer::Nak) if chosen == server => self.refused(server, turn),
            (Asked::Renewal(Some(chosen)), Answer::Nak) if chosen != server => {}
            (Asked::Memory | Asked::Renewal(_), Answer::Nak) => self.refused(server, turn),
            (Asked::Anyone | Asked::Server(_), Answer::Ack(_) | Answer::Nak)
            | (Asked::Server(_) | Asked::Memory | Asked::Renewal(_), Answer::Offer(_)) => {}
        }
    }

    pub(super) fn offered(
        &mut self,
        terms: Terms,
        ipv6_only: Option<Duration>,
        turn: &mut Turn<'_>,
    ) {
        let State::Selecting(exchange) = &self.state else {
            return;
        };
        if self.profile.only_offer {
            self.state = State::Stopped;
            return turn.act(Action::Show(Box::new(terms)));
        }
        if let Some(wait) = ipv6_only {
            return self.do_without(wait, turn);
        }
        // Who failed us is passed over until our message is repeated, if another one has offered too.
        if exchange.sent == 1 && self.rival.is_some_and(|rival| rival != terms.server) {
            return;
        }
        turn.log(format!(
            "{} offered by {}",
            terms.ipv4.address, terms.server
        ));
        self.rival = None;
        self.state = State::Requesting {
            follow: exchange.go_on(),
            server: terms.server,
            address: terms.ipv4.address,
        };
        self.send_request(turn);
    }

    pub(super) fn do_without(&mut self, wait: Duration, turn: &mut Turn<'_>) {
        let wait = wait.clamp(IPV6_ONLY_LEAST, IPV6_ONLY_MOST);
        turn.log(format!(
            "the network wants no IPv4 here; asking again in {} s",
            wait.as_secs()
        ));
        self.remembered = None;
        if self.holding.take().is_some() {
            turn.act(Action::Withdraw(Reason::Ipv6Only));
        }
        self.state = State::Waiting(turn.now.after(wait));
    }

    pub(super) fn granted(
        &mut self,
        terms: Terms,
        ipv6_only: Option<Duration>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(wait) = ipv6_only {
            return self.do_without(wait, turn);
        }
        let acquired = match &self.state {
            State::Selecting(exchange)
            | State::Rebooting { exchange, .. }
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => exchange.sent_at,
            State::Requesting { follow, .. } => follow.exchange.sent_at,
            State::NoLink
            | State::Waiting(_)
            | State::Probing { .. }
            | State::Bound
            | State::Stopped => turn.now,
        };
        let grant = Box::new(Grant::new(terms, acquired));
        let same = |held: &Holding| held.grant.terms.ipv4.address == grant.terms.ipv4.address;
        // After a loss of carrier another host may have the address (RFC 5227 §2.1).
        let proven = self
            .holding
            .as_ref()
            .is_some_and(|held| same(held) && !held.untried);
        if proven || self.profile.check == Check::Off {
            return self.take(grant, turn);
        }
        let claim = Claim::try_out(
            grant.terms.ipv4.address,
            self.profile.check,
            turn.now,
            turn.chance,
        );
        self.state = State::Probing { grant, claim };
        self.probe(turn);
    }

    pub(super) fn probe(&mut self, turn: &mut Turn<'_>) {
        let State::Probing { grant, claim } = &mut self.state else {
            return;
        };
        match claim.on_deadline(turn.now, turn.chance) {
            Step::Probe => turn.act(Action::Arp(Arp::probe(self.profile.mac, claim.address()))),
            Step::Free => {
                let grant = grant.clone();
                self.take(grant, turn);
            }
            Step::Wait | Step::Announce => {}
        }
    }

    /// The lease is ours: configure it, or its new times.
    pub(super) fn take(&mut self, grant: Box<Grant>, turn: &mut Turn<'_>) {
        if grant.is_over(turn.now) {
            turn.log("the lease was over before its address could be used".to_owned());
            return self.discover(turn);
        }
        let terms = &grant.terms;
        let same = self
            .holding
            .take()
            .filter(|held| held.grant.terms.ipv4.address == terms.ipv4.address);
        turn.log(describe(&grant, same.is_some()));
        // After a loss of carrier, switches and neighbours may have forgotten us, so the address is announced anew.
        let contested = same.as_ref().is_some_and(|held| held.contested);
        let claim = match same {
            Some(held) if !held.untried => held.claim,
            Some(_) | None => Claim::hold(terms.ipv4.address, turn.now),
        };
        self.remembered = Some((terms.ipv4.address, grant.timers.expire));
        self.hint = self.profile.remember.then_some(terms.ipv4.address);
        self.conflicts = 0;
        self.rival = None;
        self.state = State::Bound;
        self.holding = Some(Holding {
            grant: (*grant).clone(),
            claim,
            contested,
            untried: false,
        });
        turn.act(Action::Configure(grant.clone()));
        if self.profile.remember {
            turn.act(Action::Save(grant));
        }
        self.announce_if_due(turn);
    }

    pub(super) fn refused(&mut self, server: Ipv4Addr, turn: &mut Turn<'_>) {
        // A lease in between is no excuse: a server may grant short ones and refuse each renewal.
        let former = self.refused_at.replace(turn.now);
        if former.is_some_and(|at| turn.now.since(at) > NAK_MEMORY) {
            self.naks = 0;
        }
        self.naks = self.naks.saturating_add(1);
        // The first one is news (we moved to another network); the next are a pattern.
        let doublings = self.naks.saturating_sub(2).min(16);
        let wait = match self.naks {
            1 => Duration::ZERO,
            _ => NAK_WAIT.saturating_mul(1 << doublings).min(NAK_WAIT_MOST),
        };
        turn.log(format!(
            "refused by {server}; starting over in {} s",
            wait.as_secs()
        ));
        self.give_up(Reason::Refused, wait, turn);
    }

    pub(super) fn arp(&mut self, arp: &Arp, turn: &mut Turn<'_>) {
        let mac = self.profile.mac;
        if let State::Probing { grant, claim } = &mut self.state {
            if claim.on_arp(arp, mac, turn.now) == Verdict::Conflict {
                let (address, server) = (grant.terms.ipv4.address, grant.terms.server);
                self.decline(address, server, arp, turn);
            }
            return;
        }
        let Some(holding) = &mut self.holding else {
            return;
        };
        match holding.claim.on_arp(arp, mac, turn.now) {
            Verdict::Harmless => {}
            Verdict::Defend => {
                let address = holding.claim.address();
                if !std::mem::replace(&mut holding.contested, true) {
                    turn.log(format!(
                        "{} claims {address} too; defending it",
                        mac_text(arp.sender_mac)
                    ));
                }
                turn.act(Action::Arp(Arp::announcement(mac, address)));
            }
            Verdict::Conflict => {
                let (address, server) =
                    (holding.grant.terms.ipv4.address, holding.grant.terms.server);
                self.decline(address, server, arp, turn);
            }
        }
    }

    pub(super) fn decline(
        &mut self,
        address: Ipv4Addr,
        server: Ipv4Addr,
        arp: &Arp,
        turn: &mut Turn<'_>,
    ) {
        self.conflicts = self.conflicts.saturating_add(1);
        let wait = if self.conflicts < MANY_CONFLICTS {
            DECLINE_WAIT
        } else {
            DECLINE_WAIT_LONG
        };
        turn.log(format!(
            "{address} is in use by {}; declined, starting over in {} s",
            mac_text(arp.sender_mac),
            wait.as_secs()
        ));
        let request = Request {
            requested: Some(address),
            server: Some(server),
            ..blank(Kind::Decline, turn.chance.draw(), 0)
        };
        self.give_up(Reason::Conflict, wait, turn);
        turn.act(Action::Send(
            request,
            Route::Broadcast(Ipv4Addr::UNSPECIFIED),
        ));
    }

    /// Drops all that is known of the address, and starts over after `wait`.
    pub(super) fn give_up(&mut self, reason: Reason, wait: Duration, turn: &mut Turn<'_>) {
        (self.remembered, self.hint) = (None, None);
        if self.holding.take().is_some() {
            turn.act(Action::Withdraw(reason));
        }
        turn.act(Action::Forget);
        if wait.is_zero() {
            self.discover(turn);
        } else {
            self.state = State::Waiting(turn.now.after(wait));
        }
    }
}

fn describe(grant: &Grant, renewed: bool) -> String {
    let terms = &grant.terms;
    let verb = if renewed { "renewed" } else { "bound to" };
    let lease = match terms.lease {
        Some(lease) => format!("for {} s", lease.as_secs()),
        None => "for ever".to_owned(),
    };
    let via = match terms.ipv4.routers.first() {
        Some(router) => format!(", via {router}"),
        None => String::new(),
    };
    let routes = match terms.ipv4.routes.len() {
        0 => String::new(),
        count => format!(", {count} more routes"),
    };
    format!(
        "{verb} {}/{} from {} {lease}{via}{routes}",
        terms.ipv4.address, terms.ipv4.prefix, terms.server
    )
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
