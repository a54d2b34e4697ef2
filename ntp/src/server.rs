//! One server: when it is asked next, and what its answers have earned it; pure.
//!
//! ```text
//! burst of 4, 2 s apart ──► polled in each common round ──► silent: left out of rounds for 128, 256 … 1,024 s
//!                                    │ RATE: left out for twice as long as before, at least 128 s
//!                                    └ DENY, RSTR: never asked again
//! ```
//!
//! A common round asks all servers at once, so that the machine wakes once for all of them.

use std::net::SocketAddr;

use crate::filter::Filter;
use crate::packet::Refusal;
use crate::wall::Mono;

/// Requests of a burst.
const BURST: u8 = 4;

/// Requests of a burst that are left when a server's word is waited for no longer: two were for nothing.
const HOPELESS: u8 = BURST - 3;

/// Seconds between the requests of a burst: what public servers take without calling it abuse.
const BURST_GAP: Mono = Mono::from_secs(2);

/// Least time between two requests, whatever happens.
const SHORTEST_GAP: Mono = Mono::from_secs(1);

/// Shortest poll interval as a power of two of seconds: 64 s.
pub const MIN_POLL: u8 = 6;

/// Longest poll interval as a power of two of seconds: 1,024 s.
pub const MAX_POLL: u8 = 10;

/// Names a server for as long as it is asked; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// What the others think of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not judged yet, or too silent to be.
    Unknown,
    /// Agrees with the majority.
    Truechimer,
    /// Does not.
    Falseticker,
}

/// A server and its history.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name among ours.
    pub id: ServerId,
    /// Where it is.
    pub address: SocketAddr,
    /// Index of the configured name or address that it came from.
    pub origin: usize,
    /// Its recent samples.
    pub filter: Filter,
    /// What the others think of it.
    pub standing: Standing,
    /// How far it is from the others for good, in nanoseconds, once it is known.
    pub bias: Option<i64>,
    /// Whether the operator was told that it is a falseticker.
    told_false: bool,
    /// Judgements in a row that contradict what the operator was told.
    contradictions: u8,
    schedule: Schedule,
    /// One bit for each of the last eight requests, newest lowest: answered or not.
    reach: u8,
    /// Shortest interval that it tolerates, as a power of two of seconds; raised by RATE.
    tolerated: u8,
    /// Requests in a row without an answer.
    unanswered: u32,
    /// Requests in a row that could not leave, before or since one that did and was not answered.
    failures: u32,
    /// Whether the last request left.
    leaves: bool,
    /// Answers of a burst that were no time: refusals, or nobody there.
    declined: u8,
    /// Why the last of them was none, if the server said so itself.
    refusal: Option<Refusal>,
    /// Whether the operator was told that it does not answer.
    told_silent: bool,
    /// When the last request left.
    sent_at: Option<Mono>,
}

/// When a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schedule {
    /// So many more requests of the burst, the next at this time.
    Burst { left: u8, at: Mono },
    /// In each common round from this time on.
    Rounds { from: Mono },
    /// Never again.
    Denied,
}

impl Server {
    /// A server that is asked for the first time at `now`.
    pub fn new(id: ServerId, address: SocketAddr, origin: usize, now: Mono) -> Self {
        Self {
            id,
            address,
            origin,
            filter: Filter::default(),
            standing: Standing::Unknown,
            bias: None,
            told_false: false,
            contradictions: 0,
            schedule: Schedule::Burst {
                left: BURST,
                at: now,
            },
            reach: 0,
            tolerated: MIN_POLL,
            unanswered: 0,
            failures: 0,
            leaves: true,
            declined: 0,
            refusal: None,
            told_silent: false,
            sent_at: None,
        }
    }

    /// When a request of its burst is due.
    pub fn burst_at(&self) -> Option<Mono> {
        match self.schedule {
            Schedule::Burst { at, .. } => Some(at),
            Schedule::Rounds { .. } | Schedule::Denied => None,
        }
    }

    /// From when on it takes part in common rounds.
    pub fn rounds_from(&self) -> Option<Mono> {
        match self.schedule {
            Schedule::Rounds { from } => Some(from),
            Schedule::Burst { .. } | Schedule::Denied => None,
        }
    }

    /// Whether it told us to go away.
    pub fn is_denied(&self) -> bool {
        self.schedule == Schedule::Denied
    }

    /// Whether it has answered one of the last eight requests.
    pub fn is_reachable(&self) -> bool {
        self.reach != 0
    }

    /// Whether its burst is under way, and its requests can leave.
    pub fn is_bursting(&self) -> bool {
        self.burst_at().is_some() && self.leaves
    }

    /// Whether its word is still to be waited for: it has said nothing in its burst yet, to fewer than two requests.
    pub fn is_awaited(&self) -> bool {
        let mute = self.reach == 0 || self.filter.is_empty();
        let hopeful = matches!(self.schedule, Schedule::Burst { left, .. } if left > HOPELESS);
        mute && hopeful && self.declined < 2 && self.is_bursting()
    }

    /// It let us know that it has no time for us. Once may be a passing trouble, as while a network comes up.
    pub fn declined(&mut self, refusal: Option<Refusal>) {
        self.declined = self.declined.saturating_add(1);
        self.refusal = refusal;
    }

    /// What is wrong with it, for the operator.
    pub fn complaint(&self) -> String {
        match self.refusal {
            Some(refusal) => format!("{} is of no use: {refusal}", self.address),
            None => format!("{} does not answer", self.address),
        }
    }

    /// Whether it is of no use: denied, out of reach, or eight requests without an answer.
    pub fn is_lost(&self) -> bool {
        self.is_denied() || (self.reach == 0 && (self.unanswered >= 8 || self.failures >= 3))
    }

    /// A request leaves now.
    pub fn sent(&mut self, now: Mono) {
        self.reach <<= 1;
        self.leaves = true;
        self.sent_at = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.schedule = match self.schedule {
            Schedule::Burst { left, .. } if left > 0 => Schedule::Burst {
                left: left - 1,
                at: now + BURST_GAP,
            },
            Schedule::Burst { .. } | Schedule::Rounds { .. } => Schedule::Rounds {
                from: now + self.patience(),
            },
            Schedule::Denied => Schedule::Denied,
        };
    }

    /// The wait for the burst's last answer is over: from now on only rounds.
    pub fn burst_over(&mut self, now: Mono) {
        if matches!(self.schedule, Schedule::Burst { left: 0, .. }) {
            self.schedule = Schedule::Rounds { from: now };
        }
    }

    /// Whether the burst has requests left to send.
    pub fn burst_left(&self) -> bool {
        matches!(self.schedule, Schedule::Burst { left: 1.., .. })
    }

    /// The request could not even leave, as without a route: a new burst is tried after 1, 2, 4 … 64 s, or, where RATE
    /// was said, one request as late as it would have followed anyway.
    pub fn unsent(&mut self, now: Mono) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.leaves = false;
        let wait = Mono::from_secs(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.schedule = match self.schedule {
            Schedule::Denied => Schedule::Denied,
            _ if self.tolerated > MIN_POLL => Schedule::Rounds {
                from: now + self.patience(),
            },
            Schedule::Burst { .. } | Schedule::Rounds { .. } => Schedule::Burst {
                left: BURST,
                at: now + wait,
            },
        };
    }

    /// Starts over with a burst, as after the network came back or the clock was changed; not within a second of the
    /// last request, and not where RATE was said.
    pub fn burst(&mut self, now: Mono) {
        if self.is_denied() || self.tolerated > MIN_POLL {
            return;
        }
        let earliest = self.sent_at.map_or(now, |at| at + SHORTEST_GAP);
        let at = if self.failures > 0 {
            now
        } else {
            now.max(earliest)
        };
        self.failures = 0;
        self.leaves = true;
        self.declined = 0;
        self.refusal = None;
        self.schedule = Schedule::Burst { left: BURST, at };
    }

    /// Whether a request before the last one waits for its answer in vain, since it answered or first said RATE.
    pub fn is_overdue(&self) -> bool {
        self.unanswered > 1
    }

    /// Whether the operator is to be told now that it does not answer.
    pub fn turned_silent(&mut self) -> bool {
        self.reach == 0 && !std::mem::replace(&mut self.told_silent, true)
    }

    /// A good answer came; true if the operator was told that it does not answer.
    pub fn answered(&mut self, now: Mono) -> bool {
        self.reach |= 1;
        self.unanswered = 0;
        self.failures = 0;
        self.refusal = None;
        self.burst_over(now);
        if let Schedule::Rounds { from } = &mut self.schedule
            && self.tolerated == MIN_POLL
        {
            *from = (*from).min(now);
        }
        std::mem::take(&mut self.told_silent)
    }

    /// The others judge it; gives what the operator is to be told, once three judgements in a row say so.
    pub fn judged(&mut self, standing: Standing) -> Option<Standing> {
        self.standing = standing;
        let contradicts = match standing {
            Standing::Falseticker => !self.told_false,
            Standing::Truechimer => self.told_false,
            Standing::Unknown => return None,
        };
        self.contradictions = if contradicts {
            self.contradictions + 1
        } else {
            0
        };
        if self.contradictions < 3 {
            return None;
        }
        self.contradictions = 0;
        self.told_false = !self.told_false;
        Some(standing)
    }

    /// Whether the operator was told that it is a falseticker, and not yet that it agrees again.
    pub fn is_known_false(&self) -> bool {
        self.told_false
    }

    /// A sample was `apart` nanoseconds from what was expected; learned slowly, so that noise stays in the samples,
    /// where the discipline averages it.
    pub fn learn_bias(&mut self, apart: i64) {
        self.bias = Some(match self.bias {
            Some(bias) => bias + (apart - bias) / 8,
            None => apart,
        });
    }

    /// RATE: ask at most half as often as before, and no burst; true if it says so for the first time.
    pub fn rate_limited(&mut self, now: Mono, poll: u8) -> bool {
        let is_news = self.tolerated == MIN_POLL;
        if is_news {
            // It is there, and what it left unanswered came too fast.
            self.unanswered = 0;
        }
        self.tolerated = (self.tolerated.max(poll) + 1).min(MAX_POLL);
        if !self.is_denied() {
            self.schedule = Schedule::Rounds {
                from: now + Mono::from_secs(1 << self.tolerated),
            };
        }
        is_news
    }

    /// DENY or RSTR: never again.
    pub fn denied(&mut self) {
        self.schedule = Schedule::Denied;
        self.filter.clear();
        self.reach = 0;
    }

    /// How long it is left out of rounds after a request: not at all if it answers.
    fn patience(&self) -> Mono {
        let limited = if self.tolerated > MIN_POLL {
            self.tolerated
        } else {
            0
        };
        // The burst is free; then each silence doubles the wait.
        let silences = self.unanswered.saturating_sub(u32::from(BURST)).min(4);
        let silent = if silences > 0 {
            MIN_POLL + silences as u8
        } else {
            0
        };
        match limited.max(silent).min(MAX_POLL) {
            0 => Mono::ZERO,
            exponent => Mono::from_secs(1 << exponent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let address = SocketAddr::from(([192, 0, 2, 1], 123));
        Server::new(ServerId(1), address, 0, Mono::ZERO)
    }

    /// When a server that is asked as soon as it may be is asked, in seconds; rounds every 64 s.
    fn script(
        server: &mut Server,
        count: usize,
        mut answer: impl FnMut(&mut Server, Mono),
    ) -> Vec<u64> {
        let mut asked = Vec::new();
        let mut now = Mono::ZERO;
        while asked.len() < count {
            if let Some(at) = server.burst_at() {
                now = at;
                if !server.burst_left() {
                    server.burst_over(now);
                    continue;
                }
            } else {
                now += Mono::from_secs(64);
                now = now.max(server.rounds_from().unwrap());
            }
            server.sent(now);
            asked.push(now.as_secs());
            answer(server, now);
        }
        asked
    }

    #[test]
    fn four_requests_then_rounds() {
        let asked = script(&mut server(), 6, |server, now| {
            server.answered(now);
        });
        assert_eq!(asked, [0, 2, 4, 6, 70, 134]);
    }

    #[test]
    fn silence_is_met_with_patience() {
        let mut server = server();
        let asked = script(&mut server, 10, |_, _| {});
        let gaps: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [2, 2, 2, 66, 128, 256, 512, 1024, 1024]);
        assert!(server.is_lost());
        server.answered(Mono::from_secs(3_020));
        assert!(!server.is_lost());
        assert_eq!(server.rounds_from(), Some(Mono::from_secs(3_020)));
    }

    #[test]
    fn it_is_awaited_for_two_requests() {
        let mut server = server();
        for (at, awaited) in [(0, true), (2, true), (4, false), (6, false)] {
            server.sent(Mono::from_secs(at));
            assert_eq!(server.is_awaited(), awaited, "{at}");
        }
        assert_eq!(server.burst_at(), Some(Mono::from_secs(8)));
        server.burst_over(Mono::from_secs(8));
        server.burst(Mono::from_secs(70));
        assert!(server.is_awaited());
    }

    #[test]
    fn it_is_awaited_until_it_declines_twice() {
        let mut server = server();
        server.sent(Mono::ZERO);
        server.declined(None);
        assert!(server.is_awaited());
        server.declined(None);
        assert!(!server.is_awaited());
        server.burst(Mono::from_secs(9));
        assert!(server.is_awaited());
    }

    #[test]
    fn it_is_awaited_anew_when_its_samples_are_void() {
        let mut server = server();
        server.sent(Mono::ZERO);
        server.answered(Mono::ZERO);
        server.filter.clear();
        server.burst(Mono::from_secs(9));
        assert!(server.is_awaited());
    }

    #[test]
    fn what_cannot_leave_is_tried_again_and_not_awaited() {
        let mut server = server();
        for (at, next) in [(0, 1), (1, 3), (3, 7), (7, 15)] {
            server.sent(Mono::from_secs(at));
            server.unsent(Mono::from_secs(at));
            assert_eq!(server.burst_at(), Some(Mono::from_secs(next)));
            assert!(!server.is_awaited());
        }
        assert!(server.is_lost());
        server.burst(Mono::from_secs(9));
        assert_eq!(server.burst_at(), Some(Mono::from_secs(9)));
        assert!(server.is_awaited());
    }

    #[test]
    fn one_whose_requests_leave_again_is_awaited_again() {
        let mut server = server();
        server.sent(Mono::ZERO);
        server.unsent(Mono::ZERO);
        assert!(!server.is_bursting());
        server.sent(Mono::from_secs(1));
        assert!(server.is_bursting() && server.is_awaited());
    }

    #[test]
    fn what_was_wrong_once_is_not_why_it_is_silent_later() {
        let mut server = server();
        server.declined(Some(Refusal::Unsynchronised));
        assert!(server.complaint().contains("not synchronised"));
        server.answered(Mono::ZERO);
        assert!(server.complaint().contains("does not answer"));
    }

    #[test]
    fn rate_widens_and_ends_the_burst() {
        let mut server = server();
        server.sent(Mono::ZERO);
        assert!(server.rate_limited(Mono::ZERO, MIN_POLL));
        assert_eq!(server.rounds_from(), Some(Mono::from_secs(128)));
        server.sent(Mono::from_secs(128));
        server.answered(Mono::from_secs(128));
        assert_eq!(server.rounds_from(), Some(Mono::from_secs(256)));
        for _ in 0..9 {
            assert!(!server.rate_limited(Mono::ZERO, MIN_POLL));
        }
        assert_eq!(server.rounds_from(), Some(Mono::from_secs(1_024)));
        server.burst(Mono::from_secs(300));
        assert_eq!(server.burst_at(), None);
        server.sent(Mono::from_secs(1_024));
        server.unsent(Mono::from_secs(1_024));
        assert_eq!(server.burst_at(), None);
        assert_eq!(server.rounds_from(), Some(Mono::from_secs(2_048)));
    }

    #[test]
    fn denied_is_for_ever() {
        let mut server = server();
        server.denied();
        server.sent(Mono::ZERO);
        server.burst(Mono::ZERO);
        server.rate_limited(Mono::ZERO, MIN_POLL);
        assert!(server.is_denied() && server.is_lost());
        assert_eq!((server.burst_at(), server.rounds_from()), (None, None));
    }
}
