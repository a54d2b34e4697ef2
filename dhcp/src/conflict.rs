//! Whose address is it? RFC 5227 as a machine of its own; pure.
//!
//! ```text
//!   probing ──nobody answers──► announcing ──twice──► watching
//!      │                            │                    │ another claims it: defend once in ten seconds
//!      └──────── conflict ◄─────────┴────────────────────┘ and again: give it up
//! ```
//!
//! A [`Claim`] says when it wants to be asked ([`Claim::deadline`]) and what to send; it sends nothing itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::frame::Arp;
use crate::moment::{Chance, Moment};

/// How carefully an address is tried before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// With the RFC's numbers and waits: four to seven seconds.
    Full,
    /// One probe, whose answer is awaited for 200 ms.
    Fast,
    /// Not at all.
    Off,
}

/// Wait before the first probe, at most (`PROBE_WAIT`).
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Number of probes (`PROBE_NUM`).
const PROBES: u8 = 3;
/// Least time between probes (`PROBE_MIN`); the most is a second more (`PROBE_MAX`).
const PROBE_MIN: Duration = Duration::from_secs(1);
/// Spread of the time between probes.
const PROBE_SPREAD: Duration = Duration::from_secs(1);
/// Wait after the last probe (`ANNOUNCE_WAIT`).
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// Number of announcements (`ANNOUNCE_NUM`).
const ANNOUNCEMENTS: u8 = 2;
/// Time between them (`ANNOUNCE_INTERVAL`).
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two defences (`DEFEND_INTERVAL`).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Wait for an answer in [`Check::Fast`].
const FAST_WAIT: Duration = Duration::from_millis(200);

/// An address that is being tried, or that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    address: Ipv4Addr,
    phase: Phase,
    defended_at: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Probing {
        check: Check,
        left: u8,
        next: Moment,
    },
    Announcing {
        left: u8,
        next: Moment,
    },
    Watching,
}

/// What is to be done at a claim's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Send a probe.
    Probe,
    /// Nobody answered: the address may be used.
    Free,
    /// Send an announcement.
    Announce,
}

/// What another host's packet means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Harmless,
    /// Another host claims the address: defend it with an announcement.
    Defend,
    /// The address is another host's.
    Conflict,
}

/// Which packets of others matter to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The address is being tried: claims to it, and probes for it.
    Trying(Ipv4Addr),
    /// It is ours: claims alone, since the kernel answers probes.
    Holding(Ipv4Addr),
}

impl Claim {
    /// Begins to try `address`; with [`Check::Off`] it is free at once.
    pub fn try_out(address: Ipv4Addr, check: Check, now: Moment, chance: &mut dyn Chance) -> Self {
        let (left, next) = match check {
            Check::Full => (PROBES, now.after(chance.up_to(PROBE_WAIT))),
            Check::Fast => (1, now),
            Check::Off => (0, now),
        };
        Self {
            address,
            phase: Phase::Probing { check, left, next },
            defended_at: None,
        }
    }

    /// Begins to use `address`: announces it at once and once more.
    pub fn hold(address: Ipv4Addr, now: Moment) -> Self {
        Self {
            address,
            phase: Phase::Announcing {
                left: ANNOUNCEMENTS,
                next: now,
            },
            defended_at: None,
        }
    }

    /// Announces no more, and goes on watching: whether the address is ours on this link is not known yet.
    pub fn rest(&mut self) {
        self.phase = Phase::Watching;
    }

    /// Whether it is still to be announced.
    pub fn is_announcing(&self) -> bool {
        matches!(self.phase, Phase::Announcing { .. })
    }

    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What it must hear of.
    pub fn watch(&self) -> Watch {
        match self.phase {
            Phase::Probing { .. } => Watch::Trying(self.address),
            Phase::Announcing { .. } | Phase::Watching => Watch::Holding(self.address),
        }
    }

    /// When [`Claim::on_deadline`] has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Probing { next, .. } | Phase::Announcing { next, .. } => Some(next),
            Phase::Watching => None,
        }
    }

    /// What is due at `now`.
    pub fn on_deadline(&mut self, now: Moment, chance: &mut dyn Chance) -> Step {
        match &mut self.phase {
            Phase::Probing { next, .. } | Phase::Announcing { next, .. } if now < *next => {
                Step::Wait
            }
            Phase::Probing { left: 0, .. } => Step::Free,
            Phase::Probing { check, left, next } => {
                *left = left.saturating_sub(1);
                let wait = match (*check, *left) {
                    (Check::Full, 0) => ANNOUNCE_WAIT,
                    (Check::Full, _) => PROBE_MIN.saturating_add(chance.up_to(PROBE_SPREAD)),
                    (Check::Fast | Check::Off, _) => FAST_WAIT,
                };
                *next = now.after(wait);
                Step::Probe
            }
            Phase::Announcing { left, next } => {
                *left = left.saturating_sub(1);
                *next = now.after(ANNOUNCE_INTERVAL);
                if *left == 0 {
                    self.phase = Phase::Watching;
                }
                Step::Announce
            }
            Phase::Watching => Step::Wait,
        }
    }

    /// What an ARP packet of another host means for the claim (RFC 5227 §2.1.1 and §2.4 b).
    pub fn on_arp(&mut self, arp: &Arp, mac: [u8; 6], now: Moment) -> Verdict {
        if arp.sender_mac == mac {
            return Verdict::Harmless;
        }
        let claims = arp.sender == self.address;
        let probes = arp.sender.is_unspecified() && arp.target == self.address;
        match self.phase {
            Phase::Probing { .. } if claims || probes => Verdict::Conflict,
            Phase::Announcing { .. } | Phase::Watching if claims => {
                let recently = |at: Moment| now.since(at) < DEFEND_INTERVAL;
                if self.defended_at.is_some_and(recently) {
                    return Verdict::Conflict;
                }
                self.defended_at = Some(now);
                Verdict::Defend
            }
            Phase::Probing { .. } | Phase::Announcing { .. } | Phase::Watching => Verdict::Harmless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Fixed;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);

    /// Runs a claim to the end of its deadlines, in milliseconds after the start.
    fn script(mut claim: Claim) -> Vec<(u64, Step)> {
        let mut log = Vec::new();
        while let Some(at) = claim.deadline() {
            let step = claim.on_deadline(at, &mut Fixed(1000));
            log.push((at.as_millis(), step));
            if step == Step::Free {
                break;
            }
        }
        log
    }

    fn try_out(check: Check) -> Claim {
        Claim::try_out(ADDRESS, check, Moment::from_secs(0), &mut Fixed(1000))
    }

    #[test]
    fn full_keeps_the_times_of_the_rfc() {
        let want = [
            (1000, Step::Probe),
            (3000, Step::Probe),
            (5000, Step::Probe),
            (7000, Step::Free),
        ];
        assert_eq!(script(try_out(Check::Full)), want);
    }

    #[test]
    fn fast_takes_200_ms_and_off_none() {
        assert_eq!(
            script(try_out(Check::Fast)),
            [(0, Step::Probe), (200, Step::Free)]
        );
        assert_eq!(script(try_out(Check::Off)), [(0, Step::Free)]);
    }

    #[test]
    fn an_address_is_announced_twice() {
        let claim = Claim::hold(ADDRESS, Moment::from_secs(5));
        assert_eq!(
            script(claim),
            [(5000, Step::Announce), (7000, Step::Announce)]
        );
    }

    #[test]
    fn a_probe_fails_on_a_claim_and_on_a_rivals_probe() {
        let now = Moment::from_secs(0);
        let verdict = |arp: Arp| try_out(Check::Fast).on_arp(&arp, OURS, now);
        assert_eq!(
            verdict(Arp::announcement(THEIRS, ADDRESS)),
            Verdict::Conflict
        );
        assert_eq!(verdict(Arp::probe(THEIRS, ADDRESS)), Verdict::Conflict);
        assert_eq!(verdict(Arp::probe(OURS, ADDRESS)), Verdict::Harmless);
        let other = Ipv4Addr::new(192, 0, 2, 99);
        assert_eq!(verdict(Arp::announcement(THEIRS, other)), Verdict::Harmless);
    }

    #[test]
    fn one_defence_in_ten_seconds() {
        let mut claim = Claim::hold(ADDRESS, Moment::from_secs(0));
        let rival = Arp::announcement(THEIRS, ADDRESS);
        let mut at = |seconds| claim.on_arp(&rival, OURS, Moment::from_secs(seconds));
        assert_eq!(at(100), Verdict::Defend);
        assert_eq!(at(110), Verdict::Defend);
        assert_eq!(at(119), Verdict::Conflict);
    }

    #[test]
    fn a_probe_for_a_held_address_is_no_conflict() {
        let mut claim = Claim::hold(ADDRESS, Moment::from_secs(0));
        let probe = Arp::probe(THEIRS, ADDRESS);
        assert_eq!(
            claim.on_arp(&probe, OURS, Moment::from_secs(1)),
            Verdict::Harmless
        );
    }
}
