//! What the machine's PID 1 looks after beside services: devices that come, the watchdog, the machine's addresses.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gokrazy_core::addresses::Addresses;
use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::control::End;
use gokrazy_core::hotplug::Hotplug;
use gokrazy_core::kmsg::{self, Priority};
use gokrazy_core::uevent::Uevent;
use gokrazy_core::{ifaddr, paths, regular_file};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use super::clock;
use super::event_loop::Runtime;
use super::options::Mode;
use super::queue::Source;
use crate::machine::button::{self, Button, Seen};
use crate::machine::cables::{self, Carriers};
use crate::machine::folders;
use crate::machine::watchdog::Watchdog;
use crate::mount::Mount;

/// What a machine has and a container has not; empty for the latter.
#[derive(Debug, Default)]
pub struct Devices {
    /// The kernel's announcements of devices.
    pub hotplug: Option<Hotplug>,
    /// The hardware watchdog.
    pub watchdog: Option<Watchdog>,
    /// Disks to mount.
    pub mounts: Vec<Mount>,
}

/// Tells that an address changed, or an interface.
#[derive(Debug)]
pub struct AddressWatch {
    socket: OwnedFd,
}

/// linux/rtnetlink.h: groups of messages on interfaces, IPv4 and IPv6 addresses.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

impl AddressWatch {
    /// Listens for changes.
    ///
    /// # Errors
    /// The errno of making the socket.
    pub fn open() -> std::io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes in all changes; what they say is of no interest, and one that overflowed the buffer is one like any.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        while recv(
            self.socket.as_raw_fd(),
            &mut buffer,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
        )
        .is_ok_and(|length| length > 0)
        {}
    }
}

/// Brings `<run-dir>/addresses` up to date, with what `carriers` lack; a file that says the same already is left alone,
/// since its readers wake up. Returns the addresses.
///
/// # Errors
/// What was tried, for people.
pub fn publish_addresses(run_dir: &Path, carriers: &Carriers) -> Result<Addresses, String> {
    let addresses = Addresses {
        no_carrier: cables::without(carriers),
        ..ifaddr::interface_addresses().map_err(|error| format!("list addresses: {error}"))?
    };
    let path = run_dir.join(paths::ADDRESSES);
    let text = addresses.render();
    let old = regular_file::read(&path, regular_file::STATE_MAX);
    if old.is_ok_and(|old| old == text) {
        return Ok(addresses);
    }
    atomic::replace(&path, text.as_bytes(), 0o644, Durability::Volatile)
        .map(|()| addresses)
        .map_err(|error| format!("{error}: {}", error.io_error()))
}

/// The port that the image gives to web, by a file (gokrazy's place).
fn page_port() -> u16 {
    let text = std::fs::read_to_string(paths::HTTP_PORT).ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(80)
}

impl Runtime {
    pub(super) fn watch_devices(&mut self) {
        if let Some(hotplug) = &self.devices.hotplug {
            let _ = self.queue.add(hotplug, Source::Devices);
        }
        if self.options.mode == Mode::Guest {
            return;
        }
        let watch = AddressWatch::open().and_then(|watch| {
            self.queue.add(watch.fd(), Source::Addresses)?;
            Ok(watch)
        });
        match watch {
            Ok(watch) => self.addresses = Some(watch),
            Err(error) => self
                .journal
                .warn(format_args!("listen for addresses: {error}")),
        }
        self.on_addresses();
        self.look_for_buttons();
    }

    fn look_for_buttons(&mut self) {
        for button in button::look(Path::new(paths::DEV_INPUT), &self.buttons) {
            if self.queue.add(&button, Source::Buttons).is_ok() {
                self.buttons.push(button);
            }
        }
    }

    /// A press powers the machine off; a button that was unplugged is forgotten.
    pub(super) fn on_buttons(&mut self) {
        let seen: Vec<Seen> = self.buttons.iter_mut().map(Button::read).collect();
        let mut kept = seen.iter().map(|seen| *seen != Seen::Gone);
        self.buttons.retain(|_| kept.next().unwrap_or(false));
        if seen.contains(&Seen::Press) {
            self.begin_end(End::PowerOff, "the power button was pressed");
        }
    }

    pub(super) fn on_addresses(&mut self) {
        if let Some(watch) = &self.addresses {
            watch.drain();
        }
        if self.options.mode != Mode::Machine {
            return;
        }
        let carriers = cables::look(Path::new(paths::SYS_CLASS_NET));
        match publish_addresses(&self.options.run_dir, &carriers) {
            Ok(addresses) => self.tell_of_page(&addresses),
            Err(why) => self.journal.warn(why),
        }
        for line in self.cables.next(carriers, clock::boot()) {
            kmsg::say(
                Path::new(paths::KMSG),
                Priority::Warning,
                format_args!("{line}"),
            );
        }
    }

    /// Through the kernel's log, so that it reaches every console and bears a time.
    fn tell_of_page(&mut self, addresses: &Addresses) {
        let has_page = Path::new(paths::SYSTEM_BIN).join("web").exists();
        let line = self.page_line.next(addresses, page_port(), clock::boot());
        if let Some(line) = line.filter(|_| has_page) {
            let kernel_log = Path::new(paths::KMSG);
            kmsg::say(kernel_log, Priority::Info, format_args!("{line}"));
        }
    }

    pub(super) fn on_devices(&mut self) {
        let events = self
            .devices
            .hotplug
            .as_mut()
            .map(Hotplug::handle)
            .unwrap_or_default();
        if let Some(watchdog) = self
            .devices
            .watchdog
            .as_mut()
            .filter(|_| !events.is_empty())
        {
            watchdog.look_again(clock::boot());
        }
        self.on_disks(&events);
        let is_machine = self.options.mode == Mode::Machine;
        let concerns = |event: &Uevent| event.is_loss() || event.subsystem == "input";
        if is_machine && events.iter().any(concerns) {
            self.look_for_buttons();
        }
        let brings_clock = |event: &Uevent| event.is_loss() || event.subsystem == "rtc";
        if is_machine && events.iter().any(brings_clock) {
            folders::give_rtc();
        }
    }
}
