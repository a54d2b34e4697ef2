//! What all clients share: settings, the netlink socket, files, hooks, chance.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gokrazy_core::atomic::{self, ReplaceError};
use gokrazy_core::lease::Lease;
use gokrazy_netlink::Handle;

use crate::config::{ClientId, Config, Goal};
use crate::fixed::Fixed;
use crate::hooks::Hooks;
use crate::log::Log;
use crate::message::{Identity, v6};
use crate::moment::Chance;
use crate::plan::METRICS;
use crate::publish::{Publisher, make_folder};
use crate::store;
use crate::system::{self, AddressGeneration, SystemChance};

/// Options that we ask for; 121 before 3 (RFC 3442).
const WANTED: [u8; 15] = [1, 121, 3, 6, 12, 15, 26, 28, 33, 42, 51, 58, 59, 114, 119];
/// The same for all clients that hide (RFC 7844 §3.6), in numerical order.
const WANTED_ANONYMOUS: [u8; 9] = [1, 3, 6, 15, 26, 28, 33, 119, 121];
/// Classless static routes (RFC 3442).
const CLASSLESS_ROUTES: u8 = 121;
/// IPv6-only preferred (RFC 8925).
const IPV6_ONLY: u8 = 108;
/// Longest message that we take: an Ethernet frame's payload without IPv4 and UDP headers.
const LONGEST_MESSAGE: u16 = 1472;
/// Name of the DUID's file in the state folder; no interface can be called so, for its length.
const DUID_FILE: &str = "client-identifier-duid";

/// Name of the file with the secret of RFC 7217.
const SECRET_FILE: &str = "ipv6-stable-secret";

/// The way out where privileges are missing.
const NEEDS: &str =
    "run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE";
/// The last of all indices, which the kernel counts up to and does not reach.
const NO_INTERFACE: u32 = i32::MAX.unsigned_abs();

/// What became of `--once` or `--test`.
#[derive(Debug)]
pub enum Outcome {
    /// An interface is configured.
    Bound,
    /// This was offered.
    Offer(Box<Lease>),
}

/// What all clients share.
#[derive(Debug)]
pub struct World {
    /// Settings.
    pub config: Config,
    /// Requests to the kernel.
    pub netlink: Handle,
    /// Sends packets by any interface, and hears nothing.
    pub sender: OwnedFd,
    /// Published files.
    pub publisher: Publisher,
    /// The command of `--on-change`.
    pub hooks: Hooks,
    /// Log.
    pub log: Log,
    /// Chance.
    pub chance: SystemChance,
    /// Identifies the boot.
    pub boot_id: String,
    /// Something that goes into the resolver configuration has changed.
    pub resolver_changed: bool,
    /// Set when the goal is reached.
    pub outcome: Option<Outcome>,
    warned: HashMap<String, io::ErrorKind>,
    /// Files that are written, and not on the disk yet.
    unsynced: Vec<PathBuf>,
    /// Whether a lease is among them.
    sync_due: bool,
}

impl World {
    /// Opens what clients share.
    ///
    /// # Errors
    /// Privileges are missing, or the netlink socket cannot be opened.
    pub fn new(config: Config, log: Log) -> Result<Self> {
        // First of all: a clear word is better than a client that can neither send nor configure.
        let sender = open_sender()?;
        let publisher = match config.goal {
            Goal::Offer(_) => Publisher::silent(log),
            Goal::Serve | Goal::Once(_) => {
                make_folder(&config.state_dir, "leases are not kept", log);
                Publisher::new(&config.run_dir, &config.resolv_conf, log)
            }
        };
        Ok(Self {
            sender,
            netlink: open_netlink(config.goal)?,
            hooks: Hooks::new(config.on_change.clone()),
            publisher,
            log,
            chance: SystemChance,
            boot_id: system::boot_id(),
            resolver_changed: false,
            outcome: None,
            warned: HashMap::new(),
            unsynced: Vec::new(),
            sync_due: false,
            config,
        })
    }

    /// Whether nothing is to be applied.
    pub fn only_offer(&self) -> bool {
        matches!(self.config.goal, Goal::Offer(_))
    }

    /// What an administrator has fixed for an interface.
    ///
    /// A file with a slip is as good as none: a device that asks servers can be reached and mended.
    pub fn fixed(&self, name: &str) -> Option<Fixed> {
        if self.only_offer() {
            return None;
        }
        let path = self.config.config_dir.join(name);
        let parsed = match store::read(&path) {
            Ok(None) => return None,
            Ok(Some(text)) => Fixed::parse(&text),
            Err(error) => Err(error.to_string()),
        };
        parsed
            .map_err(|error| {
                self.log
                    .event(name, format!("ignore {}: {error}", path.display()))
            })
            .ok()
    }

    /// How a client on this interface presents itself.
    pub fn identity(&mut self, name: &str, mac: [u8; 6]) -> Identity {
        let client_id = match self.config.client_id {
            ClientId::Mac => [&[1], &mac[..]].concat(),
            ClientId::Duid => self.duid_client_id(mac),
        };
        let config = &self.config;
        let mut wanted = if config.anonymous {
            WANTED_ANONYMOUS.to_vec()
        } else {
            WANTED.to_vec()
        };
        if !config.classless_routes {
            wanted.retain(|code| *code != CLASSLESS_ROUTES);
        }
        // Only who has IPv6 can do without IPv4, and only who stays can wait.
        let stays = matches!(config.goal, Goal::Serve);
        if config.ipv6_only && stays && !config.anonymous && system::has_ipv6(name) {
            wanted.push(IPV6_ONLY);
        }
        let hostname = match &config.hostname {
            _ if config.anonymous => None,
            Some(name) => Some(name.clone()).filter(|name| !name.is_empty()),
            None => system::hostname(),
        };
        Identity {
            mac,
            client_id,
            hostname,
            wanted,
            longest: (!config.anonymous).then_some(LONGEST_MESSAGE),
            rapid_commit: !config.anonymous && !self.only_offer(),
            broadcast: config.broadcast,
            in_order: config.anonymous,
        }
    }

    /// RFC 4361 §6.1: type 255, interface id, DUID; the interface id is the end of the hardware address, which
    /// stays when interfaces are numbered anew.
    fn duid_client_id(&mut self, mac: [u8; 6]) -> Vec<u8> {
        let [_, _, iaid @ ..] = mac;
        [&[255], &iaid[..], &self.duid(mac)].concat()
    }

    /// How a client on this interface presents itself in DHCPv6.
    pub fn identity6(&mut self, mac: [u8; 6]) -> v6::Identity {
        let [_, _, iaid @ ..] = mac;
        v6::Identity {
            duid: if self.config.anonymous {
                link_layer_duid(mac)
            } else {
                self.duid(mac)
            },
            iaid: u32::from_be_bytes(iaid),
        }
    }

    /// The DUID of this machine, kept in the state folder; made of the first interface's hardware address
    /// (RFC 8415 §11.4).
    fn duid(&mut self, mac: [u8; 6]) -> Vec<u8> {
        let path = self.config.state_dir.join(DUID_FILE);
        let kept = store::read(&path).ok().flatten().unwrap_or_default();
        if let Some(duid) = parse_hex(kept.trim()) {
            return duid;
        }
        let duid = link_layer_duid(mac);
        // `--test` leaves no trace.
        if self.only_offer() {
            return duid;
        }
        let text: String = duid.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Err(error) = self.write_early(path, &(text + "\n")) {
            self.log
                .event("dhcp", format!("{error}: {}", error.io_error()));
        }
        duid
    }

    /// Replaces a file of the state folder without waiting for the disk; [`World::sync`] does.
    fn write_early(&mut self, path: PathBuf, text: &str) -> Result<(), ReplaceError> {
        store::write(&path, text)?;
        if !self.unsynced.contains(&path) {
            self.unsynced.push(path);
        }
        Ok(())
    }

    /// Lets the kernel make IPv6 addresses that are stable on a network and tell nothing on others (RFC 7217).
    ///
    /// The secret is kept, so that the addresses outlive a reboot; where it cannot be, they stay as they are.
    /// Who hides gets a new one each time, of which nothing is kept.
    pub fn make_addresses_stable(&mut self, name: &str) {
        let off = !self.config.stable_ipv6 || self.only_offer();
        if off || system::address_generation(name) != AddressGeneration::Eui64 {
            return;
        }
        let path = self.config.state_dir.join(SECRET_FILE);
        let hides = self.config.anonymous;
        let kept: Option<Ipv6Addr> = store::read(&path)
            .ok()
            .flatten()
            .filter(|_| !hides)
            .and_then(|text| text.trim().parse().ok());
        let secret = kept.unwrap_or_else(|| {
            let draws: [u32; 4] = std::array::from_fn(|_| self.chance.draw());
            Ipv6Addr::from(
                draws
                    .iter()
                    .fold(0_u128, |bits, draw| bits << 32 | u128::from(*draw)),
            )
        });
        let saved = match kept {
            Some(_) => Ok(()),
            None if hides => Ok(()),
            None => self.write_early(path, &format!("{secret}\n")),
        };
        if let Err(error) = saved {
            return self
                .log
                .detail(name, format!("{error}: {}", error.io_error()));
        }
        if let Err(error) = system::set_stable_secret(name, secret) {
            self.log
                .detail(name, format!("set the secret of IPv6 addresses: {error}"));
        }
    }

    /// The metric of an interface's routes: faster links win, then earlier ones.
    pub fn metric(&self, name: &str, index: u32) -> u32 {
        if let Some(metric) = self.config.metric {
            return metric;
        }
        let class = match system::speed(name) {
            Some(0..100) => 2,
            Some(100..1000) => 1,
            Some(1000..) | None => 0,
        };
        1000_u32
            .saturating_add(1000_u32.saturating_mul(class))
            .saturating_add((index % 100).saturating_mul(METRICS))
    }

    /// An interface's MTU.
    pub fn mtu(&mut self, index: u32) -> Option<u32> {
        let links = self.netlink.links().unwrap_or_default();
        links
            .iter()
            .find(|link| link.index == index)
            .map(|link| link.mtu)
    }

    /// Keeps a lease for the next run; says whether that worked.
    pub fn save(&mut self, name: &str, text: &str) -> bool {
        let result = self.write_early(self.config.state_dir.join(name), text);
        self.sync_due |= result.is_ok();
        let kind = result.as_ref().err().map(|error| error.io_error().kind());
        // A disk that stays full is told of once.
        let before = match kind {
            Some(kind) => self.warned.insert(name.to_owned(), kind),
            None => self.warned.remove(name),
        };
        if let Err(error) = result
            && before != kind
        {
            self.log.event(
                name,
                format!("{error}: {}; the lease is not kept", error.io_error()),
            );
        }
        kind.is_none()
    }

    /// Waits for the disk, once a lease is in force and published: until then nothing may hold it up.
    pub fn sync(&mut self) {
        if !std::mem::take(&mut self.sync_due) {
            return;
        }
        for path in std::mem::take(&mut self.unsynced) {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            // What is gone again need not be kept.
            if let Err(error) = synced
                && error.kind() != io::ErrorKind::NotFound
            {
                self.log
                    .event("dhcp", format!("sync {}: {error}", path.display()));
            }
        }
        if let Err(error) = atomic::sync_parent(&self.config.state_dir.join(DUID_FILE)) {
            self.log
                .event("dhcp", format!("{error}: {}", error.io_error()));
        }
    }

    /// Forgets a lease.
    pub fn forget(&self, name: &str) {
        let path = self.config.state_dir.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self
                .log
                .event(name, format!("remove {}: {error}", path.display())),
        }
    }
}

fn open_sender() -> Result<OwnedFd> {
    match gokrazy_sys::packet::open() {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("not permitted to open packet sockets: {NEEDS}")
        }
        Err(error) => {
            Err(error).context("open packet socket (does the kernel lack CONFIG_PACKET?)")
        }
    }
}

fn open_netlink(goal: Goal) -> Result<Handle> {
    let mut netlink = Handle::open().context("open netlink socket")?;
    let changes = !matches!(goal, Goal::Offer(_));
    // The kernel looks at privileges before it looks for the interface.
    if changes
        && let Err(error) = netlink.set_mtu(NO_INTERFACE, 0)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        bail!("not permitted to configure interfaces: {NEEDS}");
    }
    Ok(netlink)
}

/// DUID-LL over Ethernet.
fn link_layer_duid(mac: [u8; 6]) -> Vec<u8> {
    [&[0, 3, 0, 1], &mac[..]].concat()
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let sound = text.len() >= 6 && text.len() <= 260 && text.len().is_multiple_of(2);
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes.filter(|_| sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_duid_is_hexadecimal_or_nothing() {
        assert_eq!(parse_hex("000300010200"), Some(vec![0, 3, 0, 1, 2, 0]));
        for bad in ["", "0003", "00030", "zz0300", "0x0300"] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }
}
