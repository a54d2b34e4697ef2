//! What console and page say of cables that are out; pure but for [`look`].
//!
//! The console tells when one is pulled out and when it is back, for who looks why the page is gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::allowance::Allowance;
use crate::supervise::Moment;

/// Wired interfaces that are set up, by name, and whether each has a carrier.
pub type Carriers = BTreeMap<String, bool>;

/// The names of those that have none.
pub fn without(carriers: &Carriers) -> Vec<String> {
    let without = carriers.iter().filter(|(_, has)| !**has);
    without.map(|(name, _)| name.clone()).collect()
}

/// What was seen, and how often more may be told.
#[derive(Debug, Default)]
pub struct Cables {
    seen: Carriers,
    allowance: Allowance,
}

impl Cables {
    /// The lines for what changed. A carrier that was never there is nothing: an interface takes seconds to find one.
    pub fn next(&mut self, carriers: Carriers, now: Moment) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, has) in &carriers {
            let what = match (self.seen.get(name), has) {
                (Some(true), false) => {
                    "no carrier: its cable is out, or what is at the other end is off"
                }
                (Some(false), true) => "its carrier is back",
                (None | Some(_), _) => continue,
            };
            if self.allowance.take(now) {
                lines.push(format!("{name}: {what}"));
            }
        }
        // An interface that comes up without a carrier is waiting for its first one.
        let told = |name: &String, has: &bool| *has || self.seen.contains_key(name);
        self.seen = carriers
            .into_iter()
            .filter(|(name, has)| told(name, has))
            .collect();
        lines
    }
}

/// An interface that is set up (netdevice(7)).
const IFF_UP: u32 = 1;

/// The interfaces of `folder` ([`gokrazy_core::paths::SYS_CLASS_NET`]) that are hardware, set up, and not wireless, which
/// has no cable.
pub fn look(folder: &Path) -> Carriers {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let interfaces = entries.filter(|entry| {
        let has = |name| entry.path().join(name).exists();
        has("device") && !has("phy80211")
    });
    interfaces
        .filter_map(|entry| {
            // Not `carrier`: to read that, the kernel spins as long as somebody changes any interface.
            let read = |name| fs::read_to_string(entry.path().join(name)).ok();
            let flags = u32::from_str_radix(read("flags")?.trim().strip_prefix("0x")?, 16).ok()?;
            let state = read("operstate")?;
            let has = !["down", "lowerlayerdown", "notpresent"].contains(&state.trim());
            let name = entry.file_name().into_string().ok()?;
            (flags & IFF_UP != 0).then_some((name, has))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn carriers(all: &[(&str, bool)]) -> Carriers {
        all.iter()
            .map(|(name, has)| ((*name).to_owned(), *has))
            .collect()
    }

    #[test]
    fn a_loss_and_a_return_are_told_and_a_beginning_is_not() {
        let mut cables = Cables::default();
        let now = Duration::from_secs(9);
        for (seen, want) in [
            (carriers(&[("eth0", false)]), ""),
            (carriers(&[("eth0", true), ("eth1", true)]), ""),
            (
                carriers(&[("eth0", false), ("eth1", true)]),
                "eth0: no carrier: its cable is out, or what is at the other end is off",
            ),
            (carriers(&[("eth0", false), ("eth1", true)]), ""),
            (
                carriers(&[("eth0", true), ("eth1", true)]),
                "eth0: its carrier is back",
            ),
            (carriers(&[("eth1", true)]), ""),
            (carriers(&[("eth0", false), ("eth1", true)]), ""),
        ] {
            let shown = format!("{seen:?}");
            assert_eq!(cables.next(seen, now).join("; "), want, "{shown}");
        }
    }

    #[test]
    fn who_flaps_a_link_does_not_fill_the_console() {
        let mut cables = Cables::default();
        let now = Duration::from_secs(9);
        let lines =
            (0..200).flat_map(|turn| cables.next(carriers(&[("eth0", turn % 2 == 0)]), now));
        assert_eq!(lines.count(), 5);
    }

    #[test]
    fn only_hardware_that_is_up_is_looked_at() {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-init-cables-{}", std::process::id()));
        for (name, flags, state) in [
            ("eth0", "0x1003\n", "up\n"),
            ("eth1", "0x1002\n", "down\n"),
            ("eth2", "0x1003\n", "down\n"),
            // Of a driver that tells nothing of its carrier.
            ("usb0", "0x1003\n", "unknown\n"),
            ("tun0", "0x1003\n", "up\n"),
            ("wlan0", "0x1003\n", "down\n"),
        ] {
            let of = folder.join(name);
            let parts: &[&str] = match name {
                "tun0" => &[""],
                "wlan0" => &["device", "phy80211"],
                _ => &["device"],
            };
            for part in parts {
                fs::create_dir_all(of.join(part)).unwrap();
            }
            for (file, text) in [("flags", flags), ("operstate", state)] {
                let durability = gokrazy_core::atomic::Durability::Volatile;
                gokrazy_core::atomic::replace(&of.join(file), text.as_bytes(), 0o644, durability)
                    .unwrap();
            }
        }
        let want = [("eth0", true), ("eth2", false), ("usb0", true)];
        assert_eq!(look(&folder), carriers(&want));
        assert_eq!(without(&carriers(&want)), ["eth2"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
