//! The system's clocks, chance, names and facts about interfaces: the only reader of each.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gokrazy_core::paths;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::utsname::uname;
use nix::time::clock_gettime;

use crate::moment::{Chance, Moment};

/// The boot clock.
pub fn now() -> Moment {
    match clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => {
            let millis = Duration::from(time).as_millis();
            Moment::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
        }
        // Every kernel since 2.6.39 has it.
        Err(_) => Moment::from_millis(0),
    }
}

/// The wall clock, in seconds since 1970; 0 if it stands before.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the daemon's one reader of the wall clock"
)]
pub fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map(|time| time.as_secs()).unwrap_or_default()
}

/// The kernel's random generator.
#[derive(Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the daemon's one source of chance"
    )]
    fn draw(&mut self) -> u32 {
        let mut bytes = [0; 4];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u32::from_ne_bytes(bytes),
            // No generator at all: the clock at least differs from machine to machine.
            Err(_) => u32::try_from(now().as_millis().wrapping_mul(0x9e37_79b1) & 0xffff_ffff)
                .unwrap_or(1),
        }
    }
}

/// Identifies this boot; empty if the kernel does not say.
pub fn boot_id() -> String {
    let path = Path::new(paths::PROC).join("sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// The machine's name, unless it has none to speak of.
pub fn hostname() -> Option<String> {
    let name = uname().ok()?.nodename().to_str()?.to_owned();
    let means_none = matches!(
        name.as_str(),
        "localhost" | "localhost.localdomain" | "(none)"
    );
    crate::names::domain(name.as_bytes()).filter(|_| !means_none)
}

/// Whether an interface is a radio; those belong to whoever associates them.
pub fn is_wireless(name: &str) -> bool {
    let folder = Path::new(paths::SYS).join("class/net").join(name);
    folder.join("wireless").exists() || folder.join("phy80211").exists()
}

/// An interface's speed in Mbit/s, if it has one.
pub fn speed(name: &str) -> Option<u32> {
    let path = Path::new(paths::SYS)
        .join("class/net")
        .join(name)
        .join("speed");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether IPv6 works on an interface.
pub fn has_ipv6(name: &str) -> bool {
    fs::read_to_string(inet6(name).join("disable_ipv6")).is_ok_and(|text| text.trim() == "0")
}

/// Whether an interface heeds what routers advertise, and asks for it.
pub fn heeds_routers(name: &str) -> bool {
    let read = |key: &str| fs::read_to_string(inet6(name).join(key)).unwrap_or_default();
    // A router itself hears others only if it is told so by a 2.
    let heeds = match read("accept_ra").trim() {
        "2" => true,
        "1" => read("forwarding").trim() == "0",
        _ => false,
    };
    heeds && has_ipv6(name) && read("router_solicitations").trim() != "0"
}

/// How the kernel makes the lower half of an interface's IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressGeneration {
    /// From the hardware address, which follows a machine from network to network.
    Eui64,
    /// In another way, which someone has chosen.
    Chosen,
    /// There is no IPv6 here.
    Absent,
}

/// How an interface's IPv6 addresses are made (`addr_gen_mode`).
pub fn address_generation(name: &str) -> AddressGeneration {
    match fs::read_to_string(inet6(name).join("addr_gen_mode")) {
        Ok(text) if text.trim() == "0" => AddressGeneration::Eui64,
        Ok(_) => AddressGeneration::Chosen,
        Err(_) => AddressGeneration::Absent,
    }
}

/// Gives an interface its secret for RFC 7217 addresses, with which the kernel uses them from now on.
///
/// # Errors
/// The errno of writing below `/proc/sys`; `EROFS` in many containers.
pub fn set_stable_secret(name: &str, secret: Ipv6Addr) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(inet6(name).join("stable_secret"))?;
    file.write_all(secret.to_string().as_bytes())
}

fn inet6(name: &str) -> PathBuf {
    Path::new(paths::PROC).join("sys/net/ipv6/conf").join(name)
}

/// A timer on the boot clock: it fires at once after a suspend that went past its moment.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    set: Option<Moment>,
}

impl Alarm {
    /// A timer that is not set.
    ///
    /// # Errors
    /// The errno of `timerfd_create(2)`.
    pub fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self {
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?,
            set: None,
        })
    }

    /// Sets the timer to a moment, or stops it.
    ///
    /// # Errors
    /// The errno of `timerfd_settime(2)`.
    pub fn set(&mut self, moment: Option<Moment>) -> nix::Result<()> {
        if self.set == moment {
            return Ok(());
        }
        self.set = moment;
        match moment {
            None => self.timer.unset(),
            Some(moment) => {
                // Zero would stop the timer.
                let at = Duration::from_millis(moment.as_millis().max(1));
                let at = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        }
    }

    /// Takes note that the timer has fired.
    pub fn clear(&mut self) {
        // Reading does not block once poll has reported the timer; an error means that it was set anew meanwhile.
        let _ = self.timer.wait();
        self.set = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
