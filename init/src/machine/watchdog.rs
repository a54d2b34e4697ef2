//! The hardware watchdog: reboots the machine when the supervisor's loop stands still.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use gokrazy_core::paths;

use crate::supervise::Moment;

/// A Pi's watchdog takes at most 15 s and ignores more, without a word.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How often it is fed: one feeding may be lost, and a machine at rest is seldom woken.
const PERIOD: Duration = Duration::from_secs(7);

/// How long to wait before looking for a device again, which a module may bring.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long to look for a device: a machine without one need not be woken for ever.
const LOOK_FOR: Duration = Duration::from_secs(60);

/// The watchdog, once there is one.
#[derive(Debug)]
pub struct Watchdog {
    device: Option<File>,
    next: Option<Moment>,
}

impl Watchdog {
    /// A watchdog that has not been looked for.
    pub fn new() -> Self {
        Self {
            device: None,
            next: Some(Moment::ZERO),
        }
    }

    /// When it wants to be fed.
    pub fn deadline(&self) -> Option<Moment> {
        self.next
    }

    /// Feeds it, if it is time; opens it first, if it has come.
    pub fn feed(&mut self, now: Moment) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        if self.device.is_none() {
            self.device = open();
        }
        self.next = match &mut self.device {
            Some(device) => {
                // Any byte but `V` feeds (watchdog-api); a device that refuses is tried again like a fed one.
                let _ = device.write_all(b"1");
                Some(now.saturating_add(PERIOD))
            }
            None => (now < LOOK_FOR).then(|| now.saturating_add(LOOK_AGAIN)),
        };
    }

    /// Whether there is one, and it counts.
    pub fn is_armed(&self) -> bool {
        self.device.is_some()
    }

    /// Feeds it whether it is time or not, so that what comes next has its whole time.
    pub fn feed_now(&mut self) {
        if let Some(device) = &mut self.device {
            let _ = device.write_all(b"1");
        }
    }

    /// Stops it for good: `V` says that its end is wanted (watchdog-api, "magic close").
    ///
    /// One that the kernel was built to keep going (`nowayout`) restarts the machine all the same.
    pub fn stop(mut self) {
        if let Some(device) = &mut self.device {
            let _ = device.write_all(b"V");
        }
    }

    /// Looks for the device again: devices came or went.
    pub fn look_again(&mut self, now: Moment) {
        if self.device.is_none() {
            self.next = Some(now);
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

fn open() -> Option<File> {
    let device = OpenOptions::new().write(true).open(paths::WATCHDOG).ok()?;
    // A device with a fixed timeout keeps its own.
    let _ = gokrazy_sys::watchdog::set_timeout(&device, TIMEOUT);
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wanted_end_is_told_to_the_device() {
        let path = std::env::temp_dir().join(format!("in-watchdog-{}", std::process::id()));
        let watchdog = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            Watchdog {
                device: Some(options.open(&path).unwrap()),
                next: Some(Moment::ZERO),
            }
        };
        let mut kept = watchdog();
        kept.feed(Moment::ZERO);
        kept.feed(PERIOD / 2);
        kept.feed(PERIOD);
        kept.feed_now();
        drop(kept);
        assert_eq!(std::fs::read(&path).unwrap(), b"111");
        let mut stopped = watchdog();
        stopped.feed(Moment::ZERO);
        stopped.stop();
        assert_eq!(std::fs::read(&path).unwrap(), b"1V");
        std::fs::remove_file(path).unwrap();
    }
}
