//! All servers and the sources that they came from: who is asked now, who joins and leaves; pure.
//!
//! What they say of the time is [`crate::votes`]'.
//!
//! One common round asks every server that is not left out, so that the machine wakes once per round.
//! Tested with its machine, by `tests/simulation.rs`, and with names, by `tests/network.rs`.

use std::net::SocketAddr;

use rsntp::KissCode;

use crate::action::Action;
use crate::names::{MOST, Source, Spec, listed, share};
use crate::server::{MAX_POLL, Server, ServerId};
use crate::wall::Mono;

/// The servers.
#[derive(Debug)]
pub struct Pool {
    sources: Vec<Source>,
    /// Read and marked by [`crate::votes`].
    pub(crate) servers: Vec<Server>,
    next_id: u32,
    /// When the next common round is due.
    round_at: Mono,
}

impl Pool {
    /// The servers of these sources, all to be asked at once.
    pub fn new(specs: Vec<Spec>, now: Mono) -> Self {
        let mut pool = Self {
            sources: Vec::new(),
            servers: Vec::new(),
            next_id: 0,
            round_at: now,
        };
        pool.add_sources(specs, now);
        pool
    }

    fn add_sources(&mut self, specs: Vec<Spec>, now: Mono) {
        self.sources = specs
            .into_iter()
            .take(MOST)
            .map(|spec| Source::new(spec, now))
            .collect();
        let addresses: Vec<(usize, SocketAddr)> = (0..)
            .zip(&self.sources)
            .filter_map(|(origin, source)| match source.spec {
                Spec::Address(address) => Some((origin, address)),
                Spec::Name(..) => None,
            })
            .collect();
        for (origin, address) in addresses {
            self.add(address, origin, now);
        }
    }

    /// One address is one server and has one vote, however often it is named.
    fn add(&mut self, address: SocketAddr, origin: usize, now: Mono) -> bool {
        let known = self.servers.iter().any(|server| server.address == address);
        if known || self.servers.len() >= MOST {
            return false;
        }
        self.next_id += 1;
        self.servers
            .push(Server::new(ServerId(self.next_id), address, origin, now));
        true
    }

    /// Other sources from now on; servers that are in both lists keep their history.
    pub fn replace_sources(&mut self, specs: Vec<Spec>, now: Mono) -> Vec<Action> {
        let same = self
            .sources
            .iter()
            .map(|source| &source.spec)
            .eq(specs.iter().take(MOST));
        if same {
            return Vec::new();
        }
        let asking = listed(&specs);
        let before = std::mem::take(&mut self.servers);
        self.add_sources(specs, now);
        for server in &mut self.servers {
            if let Some(old) = before.iter().find(|old| old.address == server.address) {
                let origin = server.origin;
                server.clone_from(old);
                server.origin = origin;
            }
        }
        let gone = before
            .iter()
            .filter(|old| self.servers.iter().all(|server| server.id != old.id));
        let mut actions: Vec<Action> = gone.map(|old| Action::Forget(old.id)).collect();
        actions.push(Action::Log(asking));
        actions
    }

    /// The server of this name, if it is still among ours.
    pub fn get(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.id == id)
    }

    /// Number of servers.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Mono> {
        let waits = self.sources.iter().filter_map(Source::awaited_until);
        let bursts = self.servers.iter().filter_map(Server::burst_at);
        let rounds = self.servers.iter().filter_map(Server::rounds_from).min();
        let lookups = self.sources.iter().filter_map(Source::due);
        bursts
            .chain(rounds.map(|from| from.max(self.round_at)))
            .chain(lookups)
            .chain(waits)
            .min()
    }

    /// When a server that answers is asked next.
    pub fn next_vote(&self) -> Option<Mono> {
        let next = |server: &Server| {
            let round = server.rounds_from().map(|from| from.max(self.round_at));
            server.burst_at().or(round)
        };
        let heard = self.servers.iter().filter(|server| server.is_reachable());
        heard.filter_map(next).min()
    }

    /// Requests and lookups that are due; `poll` is the interval of rounds as a power of two of seconds.
    pub fn due(&mut self, now: Mono, poll: u8, chance: &mut dyn FnMut() -> f64) -> Vec<Action> {
        let mut actions = Vec::new();
        let round = now >= self.round_at;
        let nobody_reachable = !self.is_any_reachable();
        let mut counts = false;
        for server in &mut self.servers {
            let is_due = match (server.burst_at(), server.rounds_from()) {
                (Some(at), _) if at <= now && server.burst_left() => true,
                (Some(at), _) if at <= now => {
                    server.burst_over(now);
                    actions.push(Action::Forget(server.id));
                    if server.turned_silent() {
                        actions.push(Action::Log(server.complaint()));
                    }
                    false
                }
                (_, Some(from)) => round && from <= now,
                _ => false,
            };
            if is_due {
                // Requests to a server that nobody hears, or that cannot leave, put off no round of the others.
                counts |= server.burst_at().is_none()
                    || (server.is_bursting() && (server.is_reachable() || nobody_reachable));
                server.sent(now);
                actions.push(Action::Send(server.id, server.address));
                let is_in_burst = server.burst_at().is_some();
                if !is_in_burst && server.is_overdue() && server.turned_silent() {
                    actions.push(Action::Log(server.complaint()));
                }
            }
        }
        if counts {
            self.round_at = self.round_at.max(now + interval(poll, chance()));
        }
        self.replace_lost(now);
        for source in &mut self.sources {
            source.wait_no_longer(now);
            if source.due().is_some_and(|at| at <= now) {
                source.asked();
                actions.push(Action::Resolve(source.spec.clone()));
            }
        }
        actions
    }

    fn replace_lost(&mut self, now: Mono) {
        for server in self.servers.iter().filter(|server| server.is_lost()) {
            if let Some(source) = self.sources.get_mut(server.origin) {
                source.replace(now);
            }
        }
    }

    /// A lookup ended: lost servers of that name go, new ones come.
    pub fn resolved(
        &mut self,
        spec: &Spec,
        addresses: &[SocketAddr],
        now: Mono,
        jitter: f64,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let share = share(self.sources.len());
        let asked = self
            .sources
            .iter_mut()
            .zip(0_usize..)
            .find(|(source, _)| source.spec == *spec);
        let Some((source, index)) = asked else {
            return actions;
        };
        if addresses.is_empty() {
            if source.failed(now, jitter) {
                actions.push(Action::Log(format!(
                    "cannot look up {}; trying again",
                    source.spec
                )));
            }
            return actions;
        }
        source.answered(now);
        let name = source.spec.to_string();
        let from_here = |server: &&Server| server.origin == index;
        let replaceable = addresses
            .iter()
            .any(|new| self.servers.iter().all(|old| old.address != *new));
        let lost: Vec<ServerId> = self
            .servers
            .iter()
            .filter(from_here)
            .filter(|server| server.is_lost() && replaceable)
            .map(|server| server.id)
            .collect();
        actions.extend(lost.iter().map(|id| Action::Forget(*id)));
        // Their addresses stay known until the new ones are in, so that a lost server does not come back as new.
        let kept = self.servers.iter().filter(from_here).count() - lost.len();
        let mut wanted = share.saturating_sub(kept);
        for address in addresses {
            if wanted > 0 && self.add(*address, index, now) {
                wanted -= 1;
                actions.push(Action::Log(format!("asking {address} ({name})")));
            }
        }
        self.servers.retain(|server| !lost.contains(&server.id));
        actions
    }

    /// The network changed: whoever could not be reached, or be looked up, is tried at once.
    pub fn network_changed(&mut self, now: Mono) {
        for source in &mut self.sources {
            source.hurry(now);
        }
        for server in self
            .servers
            .iter_mut()
            .filter(|server| !server.is_reachable())
        {
            server.burst(now);
        }
    }

    /// Looks up all names and asks everyone anew, whatever is known of them; but not who denied us service.
    pub fn renew(&mut self, now: Mono) {
        for source in &mut self.sources {
            source.renew(now);
        }
        for server in &mut self.servers {
            server.burst(now);
        }
    }

    /// All samples are void, as after the clock was changed: ask everyone anew.
    pub fn start_over(&mut self, now: Mono) {
        for server in &mut self.servers {
            server.filter.clear();
            server.burst(now);
        }
    }

    /// Whether any server has answered one of its last eight requests.
    pub fn is_any_reachable(&self) -> bool {
        self.servers.iter().any(Server::is_reachable)
    }

    /// Votes that may yet come.
    pub fn awaited(&self) -> usize {
        let servers = self.servers.iter().filter(|server| server.is_awaited());
        servers.count()
            + self
                .sources
                .iter()
                .filter_map(Source::awaited_until)
                .count()
    }

    /// A request to a server could not leave.
    pub fn unsent(&mut self, id: ServerId, reason: &str, now: Mono) -> Vec<Action> {
        let Some(server) = self.get(id) else {
            return Vec::new();
        };
        server.unsent(now);
        let line = format!("cannot ask {}: {reason}; trying again", server.address);
        server
            .turned_silent()
            .then_some(Action::Log(line))
            .into_iter()
            .collect()
    }

    /// A server sent a kiss of death; rounds are 2^`poll` seconds apart.
    pub fn kissed(&mut self, id: ServerId, code: KissCode, now: Mono, poll: u8) -> Vec<Action> {
        let Some(server) = self.get(id) else {
            return Vec::new();
        };
        let line = match code {
            KissCode::RateExceeded => {
                if !server.rate_limited(now, poll) {
                    return Vec::new();
                }
                format!("{} asks for fewer requests", server.address)
            }
            KissCode::AccessDenied => {
                server.denied();
                format!(
                    "{} denies us service; it is not asked again",
                    server.address
                )
            }
            _ => return Vec::new(),
        };
        vec![Action::Log(line)]
    }
}

/// The interval of rounds, spread by a sixteenth so that clients do not march in step.
fn interval(poll: u8, chance: f64) -> Mono {
    let seconds = f64::from(1_u32 << poll.min(MAX_POLL));
    let spread = if poll >= MAX_POLL { -chance } else { chance };
    Mono::from_secs_f64(seconds * (1.0 + spread / 16.0))
}
