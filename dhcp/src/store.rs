//! The lease that outlives the process: `<state-dir>/<interface>`.
//!
//! The file is a [`Lease`] with what is needed to judge it later: the hardware address, the boot that the times on
//! the boot clock belong to, and the wall clock for after a reboot.
//! A file that is not one of ours is as good as none: the client then starts from INIT.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use gokrazy_core::atomic::{self, Durability, ReplaceError};
use gokrazy_core::keyvalue::Document;
use gokrazy_core::lease::{Ipv4, Lease, Method};

use crate::link_local;
use crate::machine::Memory;
use crate::moment::Moment;
use crate::terms::{Grant, Terms, Timers, broadcast_of, is_host};

/// A lease file is a few hundred bytes; more is not one.
const LONGEST: u64 = 16 * 1024;

/// Where and when a lease is saved or judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances<'a> {
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// Identifies the boot.
    pub boot_id: &'a str,
    /// Boot clock.
    pub now: Moment,
    /// Wall clock, seconds since 1970; may be wrong before NTP has set it.
    pub wall: u64,
}

/// The published form of a lease.
pub fn lease(grant: &Grant, interface: &str) -> Lease {
    let seconds = |moment: Option<Moment>| moment.map(Moment::as_secs);
    let ipv4 = Some(grant.terms.ipv4.clone());
    Lease {
        server: Some(grant.terms.server),
        renew_at: seconds(grant.timers.renew),
        rebind_at: seconds(grant.timers.rebind),
        expires_at: seconds(grant.timers.expire),
        ..Lease::endless(interface, Method::Dhcp, ipv4, grant.acquired.as_secs())
    }
}

/// The published form of a link-local address, held since `now`.
pub fn link_local(address: Ipv4Addr, interface: &str, now: Moment) -> Lease {
    let ipv4 = Ipv4 {
        broadcast: broadcast_of(address, link_local::PREFIX, None),
        ..Ipv4::alone(address, link_local::PREFIX)
    };
    Lease::endless(interface, Method::LinkLocal, Some(ipv4), now.as_secs())
}

/// The text of the saved file; `former_mtu` is the MTU to go back to.
pub fn render(
    grant: &Grant,
    interface: &str,
    at: &Circumstances<'_>,
    former_mtu: Option<u32>,
) -> String {
    let mut extra = Document::new();
    let age = at.now.since(grant.acquired).as_secs();
    extra
        .set("mac", mac_text(at.mac))
        .set("boot_id", at.boot_id)
        .set("acquired_wall", at.wall.saturating_sub(age))
        .set_some("former_mtu", former_mtu);
    lease(grant, interface).render() + &extra.render()
}

/// What a saved file's text tells a client in these circumstances; `holds` says whether the interface has an address.
///
/// # Errors
/// Why the text is not a saved lease.
pub fn judge(
    text: &str,
    at: &Circumstances<'_>,
    holds: impl Fn(Ipv4Addr) -> bool,
) -> Result<Memory, String> {
    let lease = Lease::parse(text).map_err(|error| error.to_string())?;
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let leased = |ipv4: &Ipv4| is_host(ipv4.address, ipv4.prefix) && lease.method == Method::Dhcp;
    let Some(address) = lease.ipv4.as_ref().filter(|ipv4| leased(ipv4)) else {
        return Err("it holds no leased address".to_owned());
    };
    let address = address.address;
    // Another adapter under the same name is another client.
    if document.get("mac") != Some(mac_text(at.mac).as_str()) {
        return Ok(Memory::None);
    }
    if document.get("boot_id") == Some(at.boot_id) {
        return Ok(same_boot(lease, address, at.now, holds));
    }
    let acquired: Option<u64> = document.optional_as("acquired_wall").unwrap_or_default();
    Ok(other_boot(&lease, address, acquired, at))
}

/// The MTU that the interface had before the lease of this boot.
pub fn former_mtu(text: &str, boot_id: &str) -> Option<u32> {
    let document = Document::parse(text).ok()?;
    if document.get("boot_id") != Some(boot_id) {
        return None;
    }
    document.optional_as("former_mtu").ok().flatten()
}

fn same_boot(
    lease: Lease,
    address: Ipv4Addr,
    now: Moment,
    holds: impl Fn(Ipv4Addr) -> bool,
) -> Memory {
    let end = lease.expires_at.map(Moment::from_secs);
    if end.is_some_and(|end| end <= now) {
        return Memory::Former(address);
    }
    match grant(lease).filter(|_| holds(address)) {
        Some(grant) => Memory::Held(Box::new(grant)),
        None => Memory::Lease(address, end),
    }
}

/// After a reboot only the wall clock can tell; while it runs behind the lease, it was not set yet and tells nothing.
fn other_boot(
    lease: &Lease,
    address: Ipv4Addr,
    acquired: Option<u64>,
    at: &Circumstances<'_>,
) -> Memory {
    let (Some(length), Some(acquired)) = (length(lease), acquired) else {
        return Memory::Lease(address, None);
    };
    if at.wall < acquired {
        return Memory::Lease(address, None);
    }
    match acquired.saturating_add(length).checked_sub(at.wall) {
        None | Some(0) => Memory::Former(address),
        Some(left) => {
            let end = at.now.after(Duration::from_secs(left));
            Memory::Lease(address, Some(end))
        }
    }
}

/// The grant behind a lease of this boot.
fn grant(lease: Lease) -> Option<Grant> {
    let at = |seconds: Option<u64>| seconds.map(Moment::from_secs);
    Some(Grant {
        acquired: Moment::from_secs(lease.acquired_at),
        timers: Timers {
            renew: at(lease.renew_at),
            rebind: at(lease.rebind_at),
            expire: at(lease.expires_at),
        },
        terms: Terms {
            lease: length(&lease).map(Duration::from_secs),
            ipv4: lease.ipv4?,
            server: lease.server?,
            t1: None,
            t2: None,
        },
    })
}

/// Seconds that a lease was given for.
fn length(lease: &Lease) -> Option<u64> {
    let end = lease.expires_at?;
    Some(end.saturating_sub(lease.acquired_at))
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The file's text, if there is one.
///
/// # Errors
/// The errno of reading it; `InvalidData` if it is no regular file or not UTF-8.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    // Nonblocking, since to open a pipe would wait for its writer.
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Replaces the file; it is not on the disk yet when this returns.
///
/// # Errors
/// The step that failed; the old file is then still in place.
pub fn write(path: &Path, text: &str) -> Result<(), ReplaceError> {
    atomic::replace(path, text.as_bytes(), 0o600, Durability::Volatile)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn granted() -> Grant {
        let ipv4 = Ipv4 {
            address: Ipv4Addr::new(192, 0, 2, 17),
            prefix: 24,
            broadcast: Some(Ipv4Addr::new(192, 0, 2, 255)),
            routers: vec![Ipv4Addr::new(192, 0, 2, 1)],
            routes: vec!["10.0.0.0/8,192.0.2.9".parse().unwrap()],
            dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
            domain: Some("example.org".into()),
            search: vec!["a.example.org".into()],
            ntp: vec![Ipv4Addr::new(192, 0, 2, 123)],
            mtu: Some(1400),
            hostname: Some("pi".into()),
            captive_portal: Some("https://example.org/".into()),
        };
        let terms = Terms {
            ipv4,
            server: Ipv4Addr::new(192, 0, 2, 1),
            lease: Some(Duration::from_secs(1000)),
            t1: None,
            t2: None,
        };
        Grant::new(terms, Moment::from_secs(100))
    }

    fn at(boot_id: &str, now: u64, wall: u64) -> Circumstances<'_> {
        Circumstances {
            mac: MAC,
            boot_id,
            now: Moment::from_secs(now),
            wall,
        }
    }

    /// Saved at boot time 200 s and wall time 5000 s, so acquired at wall time 4900 s.
    fn saved() -> String {
        render(&granted(), "eth0", &at("boot-a", 200, 5000), Some(1500))
    }

    #[track_caller]
    fn check(circumstances: &Circumstances<'_>, holds: bool, want: Memory) {
        assert_eq!(judge(&saved(), circumstances, |_| holds), Ok(want));
    }

    #[test]
    fn within_a_boot_the_boot_clock_tells() {
        let address = Ipv4Addr::new(192, 0, 2, 17);
        let end = Some(Moment::from_secs(1100));
        check(&at("boot-a", 1099, 0), false, Memory::Lease(address, end));
        check(&at("boot-a", 1100, 0), false, Memory::Former(address));
        check(
            &at("boot-a", 300, 0),
            true,
            Memory::Held(Box::new(granted())),
        );
    }

    #[test]
    fn after_a_reboot_the_wall_clock_tells_if_it_can() {
        let address = Ipv4Addr::new(192, 0, 2, 17);
        let end = Some(Moment::from_secs(3 + 900));
        check(&at("boot-b", 3, 5000), true, Memory::Lease(address, end));
        check(&at("boot-b", 3, 5900), true, Memory::Former(address));
        check(&at("boot-b", 3, 60), true, Memory::Lease(address, None));
    }

    #[test]
    fn the_former_mtu_counts_within_a_boot() {
        assert_eq!(former_mtu(&saved(), "boot-a"), Some(1500));
        assert_eq!(former_mtu(&saved(), "boot-b"), None);
    }

    #[test]
    fn other_hardware_is_another_client() {
        let mut other = at("boot-a", 300, 5000);
        other.mac[5] = 2;
        check(&other, true, Memory::None);
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        let here = at("boot-a", 300, 5000);
        let text = saved();
        for end in 0..text.len() {
            let _ = judge(&text[..end], &here, |_| true);
        }
        assert!(judge("\0\0\0", &here, |_| true).is_err());
        let bent = text.replace("address=192.0.2.17", "address=127.0.0.1");
        assert!(judge(&bent, &here, |_| true).is_err());
    }
}
