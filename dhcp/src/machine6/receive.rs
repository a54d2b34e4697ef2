//! What the machine makes of servers' messages, and of the kernel's word that an address is taken; pure.

use std::time::Duration;

use super::exchange::{Exchange, Pace};
use super::{Action, FIRST_WAIT, Machine6, Offer, State, hold};
use crate::message::v6::{Granted, Refusal, Reply};
use crate::moment::{Chance, Moment};

/// `IRT_DEFAULT` and `IRT_MINIMUM` in seconds: when settings are asked for again.
const REFRESH: u32 = 86_400;
const REFRESH_LEAST: u32 = 600;
/// Wait after a first refusal; it doubles with each up to [`REFUSED_WAIT_MOST`].
const REFUSED_WAIT: Duration = Duration::from_secs(1);
const REFUSED_WAIT_MOST: Duration = Duration::from_secs(30 * 60);
/// Wait after an address proved taken, and once that was so [`MANY_DUPLICATES`] times.
const DECLINE_WAIT: Duration = Duration::from_secs(10);
const DECLINE_WAIT_LONG: Duration = Duration::from_secs(60);
const MANY_DUPLICATES: u32 = 10;

impl Machine6 {
    /// Takes a server's message.
    pub fn on_reply(&mut self, reply: Reply, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.awaited() != Some(reply.xid) {
            return actions;
        }
        self.heed_longest_waits(&reply);
        match (&mut self.state, reply.is_advertisement) {
            (State::Soliciting(_, _), true) => self.advertised(reply, now, chance, &mut actions),
            (State::Informing(_), false) => self.informed(reply, now, chance, &mut actions),
            (State::Requesting(_, offer), false) if offer.server == reply.server => {
                match reply.granted {
                    Ok(granted) => self.granted(&granted, reply, now, &mut actions),
                    Err(_) => self.refused(now, chance, &mut actions),
                }
            }
            (State::Confirming(_, _), false) => match reply.granted {
                Err(Refusal::NotOnLink) => self.refused(now, chance, &mut actions),
                Ok(_) | Err(_) => self.state = State::Bound,
            },
            (State::Renewing(_) | State::Rebinding(_), false) => {
                self.renewed(reply, now, chance, &mut actions);
            }
            (State::Declining(_, _), false) if self.server == reply.server => {
                self.after_decline(now);
            }
            (
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
                | State::Declining(_, _),
                _,
            ) => {}
        }
        actions
    }

    /// The kernel found another host with our address (RFC 8415 §18.2.10.1).
    pub fn on_duplicate(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        let Some(held) = self.held.take() else {
            return Vec::new();
        };
        self.duplicates = self.duplicates.saturating_add(1);
        let line = format!("{} is in use by another host; declined", held.address);
        let mut actions = vec![Action::Log(line)];
        self.state = State::Declining(Exchange::new(Pace::DECLINE, now, chance), held.address);
        self.send(now, chance, &mut actions);
        self.forget_settings();
        actions.push(Action::Changed);
        actions
    }

    pub(super) fn after_decline(&mut self, now: Moment) {
        self.state = State::Waiting(now.after(if self.duplicates < MANY_DUPLICATES {
            DECLINE_WAIT
        } else {
            DECLINE_WAIT_LONG
        }));
    }

    /// They count whatever else the message says (RFC 8415 §18.2.9), and at once.
    fn heed_longest_waits(&mut self, reply: &Reply) {
        let seconds = |most: u32| Duration::from_secs(most.into());
        if let Some(most) = reply.solicit_most.map(seconds) {
            self.solicit_most = most;
            if let State::Soliciting(exchange, _) = &mut self.state {
                exchange.most = most;
            }
        }
        if let Some(most) = reply.inform_most.map(seconds) {
            self.inform_most = most;
            if let State::Informing(exchange) = &mut self.state {
                exchange.most = most;
            }
        }
    }

    fn advertised(
        &mut self,
        reply: Reply,
        now: Moment,
        chance: &mut dyn Chance,
        actions: &mut Vec<Action>,
    ) {
        let (State::Soliciting(exchange, best), Ok(granted)) = (&mut self.state, reply.granted)
        else {
            return;
        };
        let offer = Offer {
            server: reply.server,
            preference: reply.preference,
            address: granted.address,
        };
        // Within the first wait the best is collected; after it, and at the highest preference, taken.
        if exchange.sent > 1 || offer.preference == u8::MAX {
            return self.request(offer, now, chance, actions);
        }
        let better = |best: &Offer| best.preference < offer.preference;
        if best.as_ref().is_none_or(better) {
            *best = Some(offer);
        }
    }

    fn informed(
        &mut self,
        reply: Reply,
        now: Moment,
        chance: &mut dyn Chance,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(reply.granted, Ok(_) | Err(Refusal::Absent)) {
            return;
        }
        let refresh = reply.refresh.unwrap_or(REFRESH).max(REFRESH_LEAST);
        let refresh = Duration::from_secs(refresh.into());
        // The delay keeps hosts apart that were told at the same time (RFC 8415 §21.23).
        let at = now.after(refresh.saturating_add(chance.up_to(FIRST_WAIT)));
        self.state = State::Informed(at);
        self.settings(reply, actions);
    }

    fn renewed(
        &mut self,
        reply: Reply,
        now: Moment,
        chance: &mut dyn Chance,
        actions: &mut Vec<Action>,
    ) {
        match (reply.granted, self.held) {
            (Ok(granted), _) => self.granted(&granted, reply, now, actions),
            (Err(Refusal::Over | Refusal::NotOnLink), _) => self.refused(now, chance, actions),
            // The server has lost it, and may grant it anew (RFC 8415 §18.2.10.1).
            (Err(Refusal::NoBinding), Some(held)) => {
                let offer = Offer {
                    server: reply.server,
                    preference: reply.preference,
                    address: held.address,
                };
                self.request(offer, now, chance, actions);
            }
            // Another server may do better, or the same one later.
            (Err(Refusal::NoBinding | Refusal::Absent | Refusal::Other), _) => {}
        }
    }

    fn granted(&mut self, granted: &Granted, reply: Reply, now: Moment, actions: &mut Vec<Action>) {
        let renewed = self
            .held
            .is_some_and(|held| held.address == granted.address);
        let verb = if renewed { "renewed" } else { "bound to" };
        actions.push(Action::Log(format!(
            "{verb} {}/128 for {} s",
            granted.address, granted.valid
        )));
        self.held = Some(hold(granted, now));
        self.server.clone_from(&reply.server);
        self.state = State::Bound;
        self.refusals = 0;
        if renewed {
            self.duplicates = 0;
        }
        self.settings(reply, actions);
        if !actions.contains(&Action::Changed) {
            actions.push(Action::Changed);
        }
    }

    /// The address is not, or no longer, to be had: asks anew after a wait that grows.
    fn refused(&mut self, now: Moment, chance: &mut dyn Chance, actions: &mut Vec<Action>) {
        if let Some(held) = self.held.take() {
            actions.push(Action::Log(format!("{} is refused", held.address)));
            self.forget_settings();
            actions.push(Action::Changed);
        }
        let doublings = self.refusals.min(20);
        self.refusals = self.refusals.saturating_add(1);
        let wait = REFUSED_WAIT.saturating_mul(1 << doublings);
        let wait = wait.min(REFUSED_WAIT_MOST);
        self.state = State::Waiting(now.after(wait.saturating_add(chance.up_to(FIRST_WAIT))));
    }

    fn settings(&mut self, reply: Reply, actions: &mut Vec<Action>) {
        if (&self.dns, &self.search) != (&reply.dns, &reply.search) {
            (self.dns, self.search) = (reply.dns, reply.search);
            actions.push(Action::Changed);
        }
    }
}
