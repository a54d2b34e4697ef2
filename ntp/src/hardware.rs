//! The hardware clock that the daemon sets once it knows the time.
//!
//! Reading and setting are [`crate::clocks`]'. Tested as a process, by `tests/daemon.rs`.

use std::io;
use std::path::PathBuf;

use crate::clocks;
use crate::log::log;
use crate::wall::Wall;

/// A hardware clock, if it may be used.
#[derive(Debug)]
pub struct HardwareClock {
    path: Option<PathBuf>,
    /// It was not there when it was to be set: its driver may be loaded later.
    missing: bool,
}

impl HardwareClock {
    /// The one at `path`; without one, nothing is ever set.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            missing: false,
        }
    }

    /// Sets it; one that refuses is told of, and left alone from then on.
    pub fn set(&mut self, wall: Wall) {
        let Some(path) = &self.path else { return };
        let result = clocks::write_rtc(path, wall);
        self.missing = matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound);
        if let Err(error) = result
            && !self.missing
        {
            log(format_args!(
                "cannot set the hardware clock {}: {error}; it is left alone",
                path.display()
            ));
            self.path = None;
        }
    }

    /// Sets it, if it was to be set before it was there.
    pub fn set_late(&mut self, wall: Wall) {
        if self.missing {
            self.set(wall);
        }
    }
}
