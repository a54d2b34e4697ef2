//! What happens before the loop: the clock's floor, the frequency, the servers.
//!
//! Tested as a process, by `tests/daemon.rs`.

use std::io;
use std::path::Path;

use crate::clocks;
use crate::discipline::{Discipline, from_kernel, to_kernel};
use crate::limits;
use crate::log::log;
use crate::names::{DEFAULT_POOL, Spec};
use crate::packet::Span;
use crate::store::Store;
use crate::wall::{Mono, Wall};

/// Never starts before the newest time that is known to be past.
pub fn set_from_memory(store: &Store, rtc: Option<&Path>, span: Span) {
    let rtc = rtc.and_then(read_rtc);
    let now = clocks::wall();
    let Some(target) = limits::start(now, store.time(), rtc, span) else {
        return;
    };
    match clocks::set(target) {
        Ok(()) => log(format_args!(
            "the clock said {now}; set to {target}, the newest time known to be past"
        )),
        Err(error) => log(format_args!(
            "the clock says {now}, which cannot be; cannot set it to {target}: {error}"
        )),
    }
}

/// The frequency from the drift file, else what the kernel has.
pub fn discipline(store: &Store, now: Mono) -> Discipline {
    let kernel = gokrazy_sys::clock::read().map_or(0.0, |clock| from_kernel(clock.frequency));
    let Some(drift) = store.drift() else {
        return Discipline::new(now, kernel, None);
    };
    if gokrazy_sys::clock::set_frequency(to_kernel(drift.frequency)).is_err() {
        return Discipline::new(now, kernel, None);
    }
    log(format_args!(
        "frequency {:+.3} ppm from the drift file",
        drift.frequency * 1e6
    ));
    Discipline::new(now, drift.frequency, Some(drift.deviation))
}

/// DHCP's servers, else the configured ones, else the pool.
pub fn sources(store: &Store, dhcp: bool, configured: &[Spec]) -> Vec<Spec> {
    let leased = if dhcp {
        store.lease_servers()
    } else {
        Vec::new()
    };
    if !leased.is_empty() {
        return leased;
    }
    if !configured.is_empty() {
        return configured.to_vec();
    }
    DEFAULT_POOL
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// A board without a hardware clock is the usual case and not worth a line; one that cannot be read is.
fn read_rtc(path: &Path) -> Option<Wall> {
    match clocks::read_rtc(path) {
        Ok(time) => Some(time),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                log(format_args!(
                    "cannot read the hardware clock {}: {error}",
                    path.display()
                ));
            }
            None
        }
    }
}
