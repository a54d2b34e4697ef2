//! Who loads kernel modules, for which devices and when; pure.
//!
//! Devices come in bursts of hundreds, and one that is loose comes and goes without end.
//! Each process that loads modules costs memory and reads the modules' lists, so there are never more than two; what
//! is announced meanwhile waits, each kind of device once, and what does not fit is found again among all devices.

use std::collections::BTreeSet;

/// Processes at once: one that hangs in a driver's initialisation leaves the other.
const MAX_AT_WORK: usize = 2;

/// Kinds of devices that wait; a cold boot has half as many.
const MAX_WAITING: usize = 256;

/// What a process is to load modules for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// All devices that are there.
    Everything,
    /// Devices with these modaliases.
    These(BTreeSet<String>),
}

/// The processes at work, and what waits for one.
#[derive(Debug, Default)]
pub struct Crew {
    at_work: Vec<u32>,
    waiting: BTreeSet<String>,
    everything: bool,
}

impl Crew {
    /// A device with this modalias came.
    pub fn ask(&mut self, modalias: String) {
        if self.everything {
            return;
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(modalias);
        } else if !self.waiting.contains(&modalias) {
            self.ask_for_everything();
        }
    }

    /// Devices came of which nothing else is known.
    pub fn ask_for_everything(&mut self) {
        self.everything = true;
        self.waiting.clear();
    }

    /// What the next process is to do, if there is work and one more may be started.
    pub fn take_work(&mut self) -> Option<Work> {
        if self.at_work.len() >= MAX_AT_WORK {
            return None;
        }
        if std::mem::take(&mut self.everything) {
            return Some(Work::Everything);
        }
        let waiting = std::mem::take(&mut self.waiting);
        (!waiting.is_empty()).then_some(Work::These(waiting))
    }

    /// A process for what [`Crew::take_work`] gave was started.
    pub fn started(&mut self, process: u32) {
        self.at_work.push(process);
    }

    /// A child ended; whether it was one of the crew.
    pub fn ended(&mut self, process: u32) -> bool {
        let before = self.at_work.len();
        self.at_work.retain(|known| *known != process);
        self.at_work.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(modaliases: &[&str]) -> Work {
        Work::These(modaliases.iter().map(|&text| text.to_owned()).collect())
    }

    fn busy() -> Crew {
        let mut crew = Crew::default();
        for process in [10, 11] {
            crew.ask(format!("usb:{process}"));
            assert_eq!(crew.take_work(), Some(these(&[&format!("usb:{process}")])));
            crew.started(process);
        }
        crew
    }

    #[test]
    fn a_flood_starts_no_third_process_and_keeps_each_kind_once() {
        let mut crew = busy();
        for turn in 0..100_000 {
            crew.ask(format!("usb:v{}", turn % 3));
            assert_eq!(crew.take_work(), None);
        }
        assert!(!crew.ended(99), "not one of the crew");
        assert_eq!(crew.take_work(), None);
        assert!(crew.ended(10));
        assert_eq!(
            crew.take_work(),
            Some(these(&["usb:v0", "usb:v1", "usb:v2"]))
        );
        crew.started(12);
        assert!(crew.ended(11) && crew.ended(12));
        assert_eq!(crew.take_work(), None, "nothing is left to do");
    }

    #[test]
    fn what_does_not_fit_is_looked_for_among_all_devices() {
        let mut crew = busy();
        for kind in 0..100_000 {
            crew.ask(format!("usb:v{kind}"));
            assert!(crew.waiting.len() <= MAX_WAITING);
        }
        assert!(crew.ended(11));
        assert_eq!(crew.take_work(), Some(Work::Everything));
        assert_eq!(crew.take_work(), None);
        crew.ask("pci:v1".to_owned());
        assert_eq!(crew.take_work(), Some(these(&["pci:v1"])));
    }

    #[test]
    fn as_many_as_fit_are_remembered() {
        let mut crew = busy();
        for kind in 0..MAX_WAITING {
            crew.ask(format!("usb:v{kind}"));
        }
        crew.ask("usb:v0".to_owned());
        assert!(crew.ended(10));
        assert!(matches!(crew.take_work(), Some(Work::These(all)) if all.len() == MAX_WAITING));
    }
}
