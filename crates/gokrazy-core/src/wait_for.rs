//! Waiting for the machine to be ready for an application: a clock that can be trusted, a way to the network.
//!
//! For programs; the supervisor judges the same conditions by its own event queue (`wait-for` of a service).

use std::fmt;
use std::net::{Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use crate::clock::ClockState;
use crate::paths;
use crate::regular_file;

/// How often a condition that announces itself to nobody is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The name that `net-online` resolves unless another is given.
const ONLINE_NAME: &str = "gokrazy.org";

/// What a program can wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The clock is synchronised: ntp says so, or the kernel does where our ntp does not run.
    Clock,
    /// There is a route to the Internet, IPv4 or IPv6.
    NetRoute,
    /// This name resolves.
    NetOnline(String),
}

/// A word that names no condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCondition(String);

impl fmt::Display for UnknownCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown condition {:?}: use clock, net-route, net-online or net-online:NAME",
            self.0
        )
    }
}

impl std::error::Error for UnknownCondition {}

impl FromStr for Condition {
    type Err = UnknownCondition;

    fn from_str(word: &str) -> Result<Self, UnknownCondition> {
        match word.split_once(':') {
            None if word == "clock" => Ok(Self::Clock),
            None if word == "net-route" => Ok(Self::NetRoute),
            None if word == "net-online" => Ok(Self::NetOnline(ONLINE_NAME.to_owned())),
            Some(("net-online", name)) if !name.is_empty() => Ok(Self::NetOnline(name.to_owned())),
            Some(_) | None => Err(UnknownCondition(word.to_owned())),
        }
    }
}

/// Waits until each condition holds, one after the other, for as long as it takes.
pub fn wait_for(conditions: &[Condition]) {
    for condition in conditions {
        while !holds(condition, Path::new(paths::RUN)) {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Waits until the clock is synchronised.
pub fn wait_for_clock() {
    wait_for(&[Condition::Clock]);
}

/// Whether the condition holds now; `run` is where ntp publishes its state ([`paths::RUN`]).
///
/// `net-online` asks a name server, which can take as long as the resolver's time-out.
pub fn holds(condition: &Condition, run: &Path) -> bool {
    match condition {
        Condition::Clock => clock_is_synchronised(run),
        Condition::NetRoute => has_route(),
        Condition::NetOnline(name) => (name.as_str(), 0)
            .to_socket_addrs()
            .is_ok_and(|mut found| found.next().is_some()),
    }
}

fn clock_is_synchronised(run: &Path) -> bool {
    match regular_file::read(&run.join(paths::CLOCK), regular_file::STATE_MAX) {
        Ok(text) => ClockState::parse(&text).is_ok_and(|state| state.synchronised),
        // Another program steers this clock: the kernel knows whether one does.
        Err(_) => gokrazy_sys::clock::read()
            .is_ok_and(|clock| clock.status & gokrazy_sys::clock::STA_UNSYNC == 0),
    }
}

/// Connecting a datagram socket sends nothing; it only asks the kernel for a route.
/// The addresses are those of k.root-servers.net, which never move.
fn has_route() -> bool {
    let v4 = || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.connect("193.0.14.129:53"))
    };
    let v6 = || UdpSocket::bind("[::]:0").and_then(|socket| socket.connect("[2001:7fd::1]:53"));
    v4().is_ok() || v6().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::{Durability, replace};
    use std::fs;

    #[test]
    fn words_become_conditions() {
        assert_eq!("clock".parse(), Ok(Condition::Clock));
        assert_eq!("net-route".parse(), Ok(Condition::NetRoute));
        assert_eq!(
            "net-online".parse(),
            Ok(Condition::NetOnline(ONLINE_NAME.to_owned()))
        );
        assert_eq!(
            "net-online:example.org".parse(),
            Ok(Condition::NetOnline("example.org".to_owned()))
        );
        let unknown = "tea".parse::<Condition>().unwrap_err();
        assert!(unknown.to_string().starts_with("unknown condition \"tea\""));
    }

    #[test]
    fn the_clock_file_decides_where_there_is_one() {
        let run = std::env::temp_dir().join(format!("gokrazy-core-wait-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let put = |text: &str| {
            replace(
                &run.join(paths::CLOCK),
                text.as_bytes(),
                0o644,
                Durability::Volatile,
            )
            .unwrap()
        };
        put("synchronised=no\n");
        assert!(!holds(&Condition::Clock, &run));
        put("synchronised=yes\n");
        assert!(holds(&Condition::Clock, &run));
        put("garbage\n");
        assert!(!holds(&Condition::Clock, &run));
        fs::remove_dir_all(run).unwrap();
    }
}
