//! What the servers of a pool say of the time, and what the others think of it; pure.
//!
//! Who wins a vote is [`crate::select`]'s.
//! Tested with its machine, by `tests/simulation.rs`.

use rsntp::LeapIndicator;

use crate::action::Action;
use crate::filter::{Estimate, Noise, Reckoning};
use crate::pool::Pool;
use crate::server::{Server, ServerId, Standing};
use crate::wall::Mono;

impl Pool {
    /// What the servers that can be reached say now.
    pub fn estimates(&self, now: Mono, reckoning: Reckoning) -> (Vec<ServerId>, Vec<Estimate>) {
        self.servers
            .iter()
            .filter(|server| server.is_reachable())
            .filter_map(|server| Some((server.id, server.filter.best(now, reckoning)?)))
            .unzip()
    }

    /// Marks who agreed and who did not; a lasting change of heart is told.
    pub fn judge(
        &mut self,
        voters: &[ServerId],
        truechimers: &[ServerId],
        actions: &mut Vec<Action>,
    ) {
        for server in &mut self.servers {
            let standing = if truechimers.contains(&server.id) {
                Standing::Truechimer
            } else if voters.contains(&server.id) {
                Standing::Falseticker
            } else {
                Standing::Unknown
            };
            match server.judged(standing) {
                Some(Standing::Truechimer) => {
                    actions.push(Action::Log(format!(
                        "{} agrees with the others again",
                        server.address
                    )));
                }
                Some(Standing::Falseticker) => {
                    actions.push(Action::Log(format!(
                        "{} is a falseticker: the majority disagrees",
                        server.address
                    )));
                }
                Some(Standing::Unknown) | None => {}
            }
        }
    }

    /// Whether a server that speaks alone has said only once that the clock is `offset` nanoseconds behind.
    ///
    /// While more of its burst is to come, its first word is one sample that may be wild; if that is all it ever
    /// says, it has to do. Several samples of which no two agree are no word at all.
    pub fn is_hearsay(&self, id: ServerId, offset: i64, now: Mono, reckoning: Reckoning) -> bool {
        let server = self.servers.iter().find(|server| server.id == id);
        server.is_none_or(|server| {
            server.filter.backers(offset, now, reckoning) < 2
                && (server.is_bursting() || server.filter.len() > 1)
        })
    }

    /// Whether a server was last a falseticker, and others that could say otherwise are only silent.
    pub fn is_outvoted(&self, id: ServerId) -> bool {
        let server = self.servers.iter().find(|server| server.id == id);
        self.len() > 1 && server.is_some_and(Server::is_known_false)
    }

    /// Whether a burst is under way, so that better samples are to be expected soon.
    pub fn is_bursting(&self) -> bool {
        self.servers.iter().any(Server::is_bursting)
    }

    /// What is wrong with a server's newest sample.
    pub fn noise(&self, id: ServerId, now: Mono, reckoning: Reckoning) -> Noise {
        let server = self.servers.iter().find(|server| server.id == id);
        server.map_or(Noise::SILENCE, |server| server.filter.noise(now, reckoning))
    }

    /// A truechimer's sample is `apart` nanoseconds from what was expected; it learns its share of that.
    ///
    /// Servers that agree may be milliseconds apart for good, by asymmetric routes. With that taken off, their samples
    /// follow each other without a jump. What all have in common is our clock's error, and stays in.
    pub fn learn_bias(&mut self, id: ServerId, apart: i64) {
        if let Some(server) = self.get(id) {
            server.learn_bias(apart);
        }
        let good =
            |server: &&mut Server| server.standing == Standing::Truechimer && server.bias.is_some();
        let all: Vec<i64> = self
            .servers
            .iter_mut()
            .filter(good)
            .filter_map(|server| server.bias)
            .collect();
        let common = all.iter().sum::<i64>() / i64::try_from(all.len()).unwrap_or(1).max(1);
        for bias in self
            .servers
            .iter_mut()
            .filter(good)
            .filter_map(|server| server.bias.as_mut())
        {
            *bias -= common;
        }
    }

    /// How far a server is from the others for good, in nanoseconds.
    pub fn bias(&self, id: ServerId) -> i64 {
        let server = self.servers.iter().find(|server| server.id == id);
        server.and_then(|server| server.bias).unwrap_or(0)
    }

    /// The leap second that more than half of the truechimers announce.
    pub fn leap(&self) -> LeapIndicator {
        let good: Vec<LeapIndicator> = self
            .servers
            .iter()
            .filter(|server| server.standing == Standing::Truechimer)
            .filter_map(|server| server.filter.leap())
            .collect();
        [
            LeapIndicator::LastMinuteHas61Seconds,
            LeapIndicator::LastMinuteHas59Seconds,
        ]
        .into_iter()
        .find(|leap| good.iter().filter(|said| *said == leap).count() * 2 > good.len())
        .unwrap_or(LeapIndicator::NoWarning)
    }
}
