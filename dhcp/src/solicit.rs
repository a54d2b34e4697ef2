//! When routers are asked to advertise themselves anew (RFC 4861 §6.3.7), and how; pure.
//!
//! The kernel asks when an interface is set up, and when its carrier comes for the first time after that.
//! It does not when a carrier is back, though the link may be another one by then, nor for us who start later than
//! it: without a question of ours, name servers would be missing until the next advertisement, for many minutes.

use std::time::Duration;

use crate::moment::{Chance, Moment};

/// `MAX_RTR_SOLICITATION_DELAY`.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// `RTR_SOLICITATION_INTERVAL`.
const INTERVAL: Duration = Duration::from_secs(4);
/// `MAX_RTR_SOLICITATIONS`.
const MOST: u32 = 3;

/// What makes us ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// We start on a link that the kernel has asked on already: once is enough.
    Start,
    /// The carrier is back.
    Return,
}

/// The questions on one link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Solicitations {
    next: Option<(Moment, u32)>,
}

impl Solicitations {
    /// Begins to ask.
    pub fn begin(&mut self, occasion: Occasion, now: Moment, chance: &mut dyn Chance) {
        let count = match occasion {
            Occasion::Start => 1,
            Occasion::Return => MOST,
        };
        self.next = Some((now.after(chance.up_to(FIRST_WAIT)), count));
    }

    /// Ends the questions: a router has spoken, or the link is gone.
    pub fn end(&mut self) {
        self.next = None;
    }

    /// When the next one is due.
    pub fn deadline(&self) -> Option<Moment> {
        self.next.map(|(at, _)| at)
    }

    /// Whether one is to be sent now.
    pub fn is_due(&mut self, now: Moment) -> bool {
        match self.next {
            Some((at, left)) if at <= now => {
                let left = left.saturating_sub(1);
                self.next = (left > 0).then(|| (now.after(INTERVAL), left));
                true
            }
            Some(_) | None => false,
        }
    }
}

/// The question, without its checksum, which the kernel fills in: type 133, and our hardware address, so that a
/// router need not ask for it.
pub fn message(mac: [u8; 6]) -> Vec<u8> {
    [&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1], &mac[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Fixed;

    fn asked(occasion: Occasion) -> Vec<u64> {
        let mut questions = Solicitations::default();
        questions.begin(occasion, Moment::from_millis(500), &mut Fixed(700));
        let mut moments = Vec::new();
        while let Some(at) = questions.deadline() {
            let before = Moment::from_millis(at.as_millis() - 1);
            assert!(!questions.is_due(before) && questions.is_due(at));
            moments.push(at.as_millis());
        }
        moments
    }

    #[test]
    fn a_returned_carrier_is_worth_three_questions_and_a_start_one() {
        assert_eq!(asked(Occasion::Return), [1200, 5200, 9200]);
        assert_eq!(asked(Occasion::Start), [1200]);
    }

    #[test]
    fn an_answer_ends_the_questions() {
        let mut questions = Solicitations::default();
        questions.begin(Occasion::Return, Moment::from_secs(1), &mut Fixed(0));
        questions.end();
        assert!(!questions.is_due(Moment::from_secs(9)) && questions.deadline().is_none());
    }

    #[test]
    fn the_message_has_the_rfcs_layout() {
        let bytes = message([2, 0, 0, 0, 0, 7]);
        assert_eq!(bytes, [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7]);
    }
}
