//! Whether clock, route, name service and mounts are there; asked only while a service waits for them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use gokrazy_core::clock::ClockState;
use gokrazy_core::paths;

use crate::service::condition::Condition;
use crate::supervise::Moment;

/// How often an awaited condition is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// Looks at the machine's conditions.
#[derive(Debug, Default)]
pub struct Conditions {
    next_look: Option<Moment>,
    next_lookup: Moment,
    /// Children that look up a name, which may take long.
    lookups: HashSet<u32>,
    online: bool,
}

impl Conditions {
    /// When [`Conditions::look`] is due, if anything is awaited.
    pub fn deadline(&self) -> Option<Moment> {
        self.next_look
    }

    /// Looks whether the awaited conditions hold; returns those that do.
    pub fn look(
        &mut self,
        awaited: &HashSet<Condition>,
        run_dir: &Path,
        online_name: &str,
        now: Moment,
    ) -> Vec<Condition> {
        self.next_look = (!awaited.is_empty()).then(|| now.saturating_add(PERIOD));
        let mut holding = Vec::new();
        for condition in awaited {
            let holds = match condition {
                Condition::Clock => clock_is_synchronised(run_dir),
                Condition::NetRoute => has_default_route(),
                Condition::NetOnline => self.is_online(online_name, now),
                Condition::Mount(path) => is_mounted(path),
                Condition::Service(_) => false,
            };
            if holds {
                holding.push(condition.clone());
            }
        }
        holding
    }

    fn is_online(&mut self, name: &str, now: Moment) -> bool {
        if std::mem::take(&mut self.online) {
            return true;
        }
        if self.lookups.is_empty() && now >= self.next_lookup {
            // A look-up may wait for a server for many seconds, and PID 1 waits for nobody: a child does it.
            self.next_lookup = now.saturating_add(Duration::from_secs(1));
            let look_up = || {
                u8::from(
                    !name
                        .to_socket_addrs()
                        .is_ok_and(|mut found| found.next().is_some()),
                )
            };
            self.lookups
                .extend(gokrazy_sys::process::fork(look_up).ok());
        }
        false
    }

    /// Takes in that a child ended, one of ours perhaps.
    pub fn on_exit(&mut self, pid: u32, success: bool) {
        let ours = self.lookups.remove(&pid);
        self.online |= ours && success;
    }
}

/// By our ntp's word where it runs, else by the kernel's own account (`adjtimex(2)`).
fn clock_is_synchronised(run_dir: &Path) -> bool {
    let text = fs::read_to_string(run_dir.join(paths::CLOCK));
    match text.ok().and_then(|text| ClockState::parse(&text).ok()) {
        Some(state) => state.synchronised,
        None => gokrazy_sys::process::kernel_clock_is_synchronised(),
    }
}

fn has_default_route() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    default_route_v4(&read(paths::PROC_ROUTE)) || default_route_v6(&read(paths::PROC_IPV6_ROUTE))
}

/// Columns: interface, destination, gateway, flags …, mask the eighth.
fn default_route_v4(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000")
            && fields.get(7) == Some(&"00000000")
            && fields.first() != Some(&"lo")
    })
}

/// Columns: destination, its length, source, its length, next hop …, interface the last; `lo` holds refusals.
fn default_route_v6(table: &str) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let zero = fields
            .next()
            .is_some_and(|address| address.bytes().all(|byte| byte == b'0'));
        zero && fields.next() == Some("00") && fields.last() != Some("lo")
    })
}

fn is_mounted(target: &Path) -> bool {
    let table = fs::read_to_string(paths::PROC_MOUNTINFO).unwrap_or_default();
    mounts(&table).any(|mounted| Path::new(&mounted) == target)
}

/// The mount points of a mountinfo table, its octal escapes undone (`proc_pid_mountinfo(5)`).
fn mounts(table: &str) -> impl Iterator<Item = String> {
    let escapes: HashMap<&str, &str> = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into();
    table.lines().filter_map(move |line| {
        let mut point = line.split(' ').nth(4)?.to_owned();
        for (escape, plain) in &escapes {
            point = point.replace(escape, plain);
        }
        Some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_told_from_others() {
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let default = "eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        let net = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(default_route_v4(&format!("{head}{net}{default}")));
        assert!(!default_route_v4(&format!("{head}{net}")));
        assert!(!default_route_v4(""));
        let zero = "0".repeat(32);
        let line = |dev: &str| format!("{zero} 00 {zero} 00 {zero} 00000400 1 0 00200200 {dev}\n");
        assert!(default_route_v6(&line("eth0")));
        assert!(!default_route_v6(&line("lo")));
    }

    #[test]
    fn mount_points_with_blanks_are_found() {
        let table = "36 35 98:0 / /mnt/my\\040disk rw - ext4 /dev/sda1 rw\n";
        assert_eq!(mounts(table).collect::<Vec<_>>(), ["/mnt/my disk"]);
    }
}
