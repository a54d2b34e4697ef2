//! An address of 169.254.0.0/16 while no server answers (RFC 3927); pure.
//!
//! ```text
//!   resting ──no lease for 5 s──► trying (RFC 5227, in full) ──free──► held
//!      ▲                             ▲  └─ conflict: another address     │
//!      │                             └──────── conflict, not defended ───┤
//!      └────────────────────── a lease, or no link ──────────────────────┘
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::conflict::{Check, Claim, Step, Verdict, Watch};
use crate::frame::Arp;
use crate::moment::{Chance, Moment};

/// Patience with servers before an address is taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// `MAX_CONFLICTS`, and the pause before each further try (`RATE_LIMIT_INTERVAL`, RFC 3927 §9).
const MANY_CONFLICTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(60);
/// Length of the network's prefix.
pub const PREFIX: u8 = 16;

/// What the shell is to do.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send an ARP packet.
    Arp(Arp),
    /// Configure this address.
    Take(Ipv4Addr),
    /// Remove it.
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Resting,
    Waiting(Moment),
    Trying(Claim),
    Held(Claim),
}

/// The address of one interface.
#[derive(Debug, Clone)]
pub struct LinkLocal {
    mac: [u8; 6],
    state: State,
    conflicts: u32,
}

impl LinkLocal {
    /// Rests.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            mac,
            state: State::Resting,
            conflicts: 0,
        }
    }

    /// There is a link and no lease: an address will be wanted.
    pub fn search(&mut self, now: Moment) {
        if self.state == State::Resting {
            self.state = State::Waiting(now.after(PATIENCE));
        }
    }

    /// There is a lease, or no link; says whether an address was held.
    pub fn rest(&mut self) -> bool {
        let held = matches!(self.state, State::Held(_));
        self.state = State::Resting;
        held
    }

    /// The address that ARP must be watched for.
    pub fn claimed(&self) -> Option<Watch> {
        match &self.state {
            State::Trying(claim) | State::Held(claim) => Some(claim.watch()),
            State::Resting | State::Waiting(_) => None,
        }
    }

    /// When [`LinkLocal::on_deadline`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Resting => None,
            State::Waiting(at) => Some(*at),
            State::Trying(claim) | State::Held(claim) => claim.deadline(),
        }
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Moment, chance: &mut dyn Chance) -> Vec<Action> {
        match &mut self.state {
            State::Waiting(at) if *at <= now => {
                let address = candidate(self.mac, self.conflicts);
                self.state = State::Trying(Claim::try_out(address, Check::Full, now, chance));
                Vec::new()
            }
            State::Resting | State::Waiting(_) => Vec::new(),
            State::Trying(claim) => match claim.on_deadline(now, chance) {
                Step::Probe => vec![Action::Arp(Arp::probe(self.mac, claim.address()))],
                Step::Free => {
                    let address = claim.address();
                    self.state = State::Held(Claim::hold(address, now));
                    vec![Action::Take(address)]
                }
                Step::Wait | Step::Announce => Vec::new(),
            },
            State::Held(claim) => match claim.on_deadline(now, chance) {
                Step::Announce => vec![Action::Arp(Arp::announcement(self.mac, claim.address()))],
                Step::Wait | Step::Probe | Step::Free => Vec::new(),
            },
        }
    }

    /// Takes another host's ARP packet.
    pub fn on_arp(&mut self, arp: &Arp, now: Moment) -> Vec<Action> {
        let (held, verdict, address) = match &mut self.state {
            State::Resting | State::Waiting(_) => return Vec::new(),
            State::Trying(claim) => (false, claim.on_arp(arp, self.mac, now), claim.address()),
            State::Held(claim) => (true, claim.on_arp(arp, self.mac, now), claim.address()),
        };
        match verdict {
            Verdict::Harmless => Vec::new(),
            Verdict::Defend => vec![Action::Arp(Arp::announcement(self.mac, address))],
            Verdict::Conflict => {
                self.conflicts = self.conflicts.saturating_add(1);
                let pause = if self.conflicts < MANY_CONFLICTS {
                    Duration::ZERO
                } else {
                    PAUSE
                };
                self.state = State::Waiting(now.after(pause));
                if held { vec![Action::Drop] } else { Vec::new() }
            }
        }
    }
}

/// The address to try after so many conflicts: the same sequence on each boot, another one for each adapter
/// (RFC 3927 §2.1), from 169.254.1.0 to 169.254.254.255.
fn candidate(mac: [u8; 6], conflicts: u32) -> Ipv4Addr {
    // FNV-1a spreads neighbouring hardware addresses well enough.
    let bytes = mac.into_iter().chain(conflicts.to_be_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let offset = (hash ^ (hash >> 16)) % 65_024;
    Ipv4Addr::from(0xa9fe_0100_u32.saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Fixed;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];

    /// Runs to the next `Take`; its time in seconds and its address.
    fn taken(machine: &mut LinkLocal) -> (u64, Ipv4Addr) {
        loop {
            let at = machine.deadline().unwrap();
            for action in machine.on_deadline(at, &mut Fixed(0)) {
                if let Action::Take(address) = action {
                    return (at.as_secs(), address);
                }
            }
        }
    }

    #[test]
    fn an_address_is_taken_after_patience_and_a_full_try() {
        let mut machine = LinkLocal::new(MAC);
        assert_eq!(machine.deadline(), None);
        machine.search(Moment::from_secs(0));
        // Five seconds, no wait, probes at 5, 6 and 7, two more seconds.
        assert_eq!(taken(&mut machine), (9, candidate(MAC, 0)));
        assert!(machine.rest());
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn a_conflict_leads_to_another_address_and_many_to_pauses() {
        let mut machine = LinkLocal::new(MAC);
        machine.search(Moment::from_secs(0));
        for round in 1..=11_u64 {
            let (at, address) = taken(&mut machine);
            assert_eq!(machine.claimed(), Some(Watch::Holding(address)));
            let now = Moment::from_secs(at);
            let rival = Arp::announcement(OTHER, address);
            let defence = Action::Arp(Arp::announcement(MAC, address));
            assert_eq!(machine.on_arp(&rival, now), [defence]);
            assert_eq!(machine.on_arp(&rival, now), [Action::Drop]);
            let pause = if round < 10 { 0 } else { 60 };
            assert_eq!(machine.deadline(), Some(Moment::from_secs(at + pause)));
        }
    }

    #[test]
    fn candidates_stay_within_the_network_and_differ() {
        let mut seen = std::collections::HashSet::new();
        for conflicts in 0..1000 {
            let address = candidate(MAC, conflicts);
            let [a, b, c, _] = address.octets();
            assert!(a == 169 && b == 254 && (1..=254).contains(&c), "{address}");
            seen.insert(address);
        }
        assert!(seen.len() > 900);
        assert_ne!(candidate(MAC, 0), candidate(OTHER, 0));
    }
}
