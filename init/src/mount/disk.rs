//! One disk's life: absent, tried, mounted, gone; pure.

use std::time::Duration;

use gokrazy_core::mount_status::State;

use crate::supervise::Moment;

/// Disks of a machine that starts come in a burst; one look afterwards is enough.
const SETTLE: Duration = Duration::from_millis(100);

/// Pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often to look where nobody announces disks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where a disk is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not there; looked for at that moment, if not only when disks come.
    Absent(Option<Moment>),
    /// A child looks for it and mounts it; whether disks came meanwhile.
    Trying { again: bool },
    /// It is there and was refused; tried again at that moment.
    Refused(Moment),
    /// Mounted, by the name of its node.
    Mounted(String),
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is mounted; the name of its node below `/dev`.
    Mounted(String),
    /// There is no such disk.
    Absent,
    /// It could not be mounted; why, for people.
    Failed(String),
}

/// Whether the kernel announces disks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// It does.
    Announced,
    /// It does not: they are looked for every few seconds.
    Silent,
}

/// What an attempt begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Attempt {
    /// Nothing is mounted.
    Fresh,
    /// The mount of a disk that is gone is to be taken away first.
    AfterDetach,
}

/// One disk.
#[derive(Debug, Clone)]
pub struct Disk {
    phase: Phase,
    stale: bool,
    arrivals: Arrivals,
    failures: u32,
    said: Option<String>,
}

impl Disk {
    /// A disk that is to be looked for; `mounted` names its node if an earlier init has mounted it.
    pub fn new(arrivals: Arrivals, mounted: Option<String>) -> Self {
        Self {
            phase: mounted.map_or(Phase::Absent(Some(Moment::ZERO)), Phase::Mounted),
            stale: false,
            arrivals,
            failures: 0,
            said: None,
        }
    }

    /// When the next [`Disk::attempt`] is due, if ever.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Absent(moment) => *moment,
            Phase::Refused(moment) => Some(*moment),
            Phase::Trying { .. } | Phase::Mounted(_) => None,
        }
    }

    /// The attempt that is due now, if one is; the caller then tells what came of it.
    pub fn attempt(&mut self, now: Moment) -> Option<Attempt> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.phase = Phase::Trying { again: false };
        Some(match std::mem::take(&mut self.stale) {
            true => Attempt::AfterDetach,
            false => Attempt::Fresh,
        })
    }

    /// Takes in that disks came or changed.
    pub fn on_arrival(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Absent(moment @ None) => *moment = Some(now.saturating_add(SETTLE)),
            Phase::Trying { again } => *again = true,
            Phase::Absent(Some(_)) | Phase::Refused(_) | Phase::Mounted(_) => {}
        }
    }

    /// Takes in that a disk went, by the name of its node; says whether it was this one, whose mount is to be undone.
    pub fn on_departure(&mut self, node: &str, now: Moment) -> bool {
        let ours = matches!(&self.phase, Phase::Mounted(own) if own == node);
        if ours {
            self.phase = Phase::Absent(Some(now));
            self.stale = true;
            self.said = None;
        }
        ours
    }

    /// Takes in what came of an attempt; returns what is to be told, where it was not told before.
    pub fn on_outcome(&mut self, outcome: Outcome, now: Moment) -> Option<String> {
        let again = self.phase == Phase::Trying { again: true };
        let line = match outcome {
            Outcome::Mounted(node) => {
                self.failures = 0;
                let line = format!("mounted /dev/{node}");
                self.phase = Phase::Mounted(node);
                line
            }
            Outcome::Absent => {
                self.failures = 0;
                self.phase = match again {
                    true => Phase::Absent(Some(now.saturating_add(SETTLE))),
                    false => self.absent(now),
                };
                "waits for its disk".to_owned()
            }
            Outcome::Failed(why) => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << self.failures.min(6))
                    .min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Refused(now.saturating_add(pause));
                format!("{why}; trying again")
            }
        };
        let known = self
            .said
            .replace(line.clone())
            .is_some_and(|said| said == line);
        (!known).then_some(line)
    }

    fn absent(&self, now: Moment) -> Phase {
        Phase::Absent((self.arrivals == Arrivals::Silent).then(|| now.saturating_add(LOOK_AGAIN)))
    }

    /// The name of its node below `/dev`, if it is mounted.
    pub fn node(&self) -> Option<&str> {
        match &self.phase {
            Phase::Mounted(node) => Some(node),
            Phase::Absent(_) | Phase::Trying { .. } | Phase::Refused(_) => None,
        }
    }

    /// How it is, as it is published, and why if it was refused.
    pub fn state(&self) -> (State, Option<&str>) {
        match (&self.phase, self.failures) {
            (Phase::Mounted(_), _) => (State::Mounted, None),
            (Phase::Absent(_) | Phase::Trying { .. }, 0) => (State::Waiting, None),
            (Phase::Absent(_) | Phase::Trying { .. } | Phase::Refused(_), _) => {
                (State::Refused, self.said.as_deref())
            }
        }
    }

    /// Whether it is mounted.
    pub fn is_mounted(&self) -> bool {
        matches!(self.phase, Phase::Mounted(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(disk: &mut Disk, at: u64) -> bool {
        disk.attempt(ms(at)) == Some(Attempt::Fresh)
    }

    fn ms(number: u64) -> Moment {
        Duration::from_millis(number)
    }

    #[test]
    fn a_disk_that_comes_later_is_mounted_and_nobody_wakes_up_meanwhile() {
        let mut disk = Disk::new(Arrivals::Announced, None);
        assert!(due(&mut disk, 0));
        assert_eq!(disk.deadline(), None, "an attempt is under way");
        let told = disk.on_outcome(Outcome::Absent, ms(10));
        assert_eq!(told.as_deref(), Some("waits for its disk"));
        assert_eq!(disk.deadline(), None);
        // Three disks come; one look follows.
        for at in [1000, 1001, 1002] {
            disk.on_arrival(ms(at));
        }
        assert!(!due(&mut disk, 1099) && due(&mut disk, 1100));
        // Neither of them was it, and a fourth came during the look.
        disk.on_arrival(ms(1150));
        assert_eq!(
            disk.on_outcome(Outcome::Absent, ms(1200)),
            None,
            "told once"
        );
        assert!(!due(&mut disk, 1299) && due(&mut disk, 1300));
        let told = disk.on_outcome(Outcome::Mounted("sdb1".to_owned()), ms(1310));
        assert_eq!(told.as_deref(), Some("mounted /dev/sdb1"));
        assert!(disk.is_mounted() && disk.deadline().is_none());
    }

    #[test]
    fn one_that_is_refused_is_tried_ever_more_seldom_and_told_once() {
        let mut disk = Disk::new(Arrivals::Announced, None);
        let mut now = ms(0);
        let mut pauses = Vec::new();
        for round in 0..9 {
            assert_eq!(disk.attempt(now), Some(Attempt::Fresh));
            let told = disk.on_outcome(Outcome::Failed("sda1: bad".to_owned()), now);
            assert_eq!(told.is_some(), round == 0);
            disk.on_arrival(now);
            let next = disk.deadline().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_that_goes_is_waited_for() {
        let mut disk = Disk::new(Arrivals::Announced, Some("sda1".to_owned()));
        assert!(!disk.on_departure("sda", ms(5)) && disk.is_mounted());
        assert!(disk.on_departure("sda1", ms(5)) && !disk.is_mounted());
        assert!(!disk.on_departure("sda1", ms(6)), "once");
        assert_eq!(disk.attempt(ms(6)), Some(Attempt::AfterDetach));
        let told = disk.on_outcome(Outcome::Absent, ms(7));
        assert_eq!(told.as_deref(), Some("waits for its disk"));
        disk.on_arrival(ms(10));
        assert_eq!(disk.attempt(ms(110)), Some(Attempt::Fresh));
    }

    #[test]
    fn without_announcements_it_is_looked_for() {
        let mut disk = Disk::new(Arrivals::Silent, None);
        assert!(due(&mut disk, 0));
        let _ = disk.on_outcome(Outcome::Absent, ms(0));
        assert_eq!(disk.deadline(), Some(LOOK_AGAIN));
    }
}
