//! Names, leases and routes, in network namespaces that live as long as their test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test reads clocks and is to fail where it cannot go on; the harness serves other tests too"
)]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/network.rs"]
mod network;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Setup, until};
use network::{alone, ip, name_server};

#[test]
fn a_name_gives_several_servers_and_each_has_a_vote() {
    alone("pool", |name| {
        let addresses: Vec<Ipv4Addr> = (1..=6).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect();
        let servers: Vec<Server> = addresses
            .iter()
            .map(|address| {
                let socket = UdpSocket::bind((*address, 12_123)).unwrap();
                Server::on(socket, |_, sound| vec![sound.to_vec()])
            })
            .collect();
        name_server(addresses, 0);
        let daemon = Setup::new(name)
            .ahead(-30.0)
            .start(&["--server", "pool.example:12123"]);
        daemon.wait_synchronised();
        until("bursts", 15, || {
            servers
                .iter()
                .filter(|server| server.requests().len() == 4)
                .count()
                == 4
        });
        assert_eq!(daemon.corrections("step").len(), 1);
    });
}

#[test]
fn a_name_that_answers_with_nothing_is_asked_again() {
    alone("nothing", |name| {
        let server = Server::on(UdpSocket::bind("127.0.0.1:12123").unwrap(), |_, sound| {
            vec![sound.to_vec()]
        });
        let asked = name_server(vec![Ipv4Addr::LOCALHOST], 4);
        let mut daemon = Setup::new(name).ahead(-30.0).start(&["time.example:12123"]);
        until("failure told", 10, || {
            daemon.said("cannot look up time.example") == 1
        });
        assert!(server.requests().is_empty());
        daemon.wait_synchronised();
        assert!(asked.load(Ordering::SeqCst) > 4);
        assert_eq!(daemon.said("cannot look up"), 1);
        assert!(daemon.end().success());
    });
}

#[test]
fn a_name_server_that_hangs_holds_up_neither_other_servers_nor_the_end() {
    alone("hang", |name| {
        let silent = UdpSocket::bind("127.0.0.1:53").unwrap();
        let server = Server::lying(0.0);
        let started = Instant::now();
        let mut daemon = Setup::new(name)
            .ahead(-30.0)
            .start(&["hang.example", &server.address]);
        daemon.wait_synchronised();
        assert!(started.elapsed() < Duration::from_secs(15));
        assert!(daemon.end().success());
        drop(silent);
    });
}

#[test]
fn a_lookup_that_hangs_in_a_network_without_routes_does_not_hold_up_the_next() {
    alone("hang-route", |name| {
        let silent = UdpSocket::bind("127.0.0.1:53").unwrap();
        let timeout = Some(Duration::from_secs(20));
        silent.set_read_timeout(timeout).unwrap();
        let daemon = Setup::new(name).ahead(-30.0).start(&["time.example:12123"]);
        silent.recv(&mut [0; 512]).unwrap();
        drop(silent);
        let server = Server::on(UdpSocket::bind("127.0.0.1:12123").unwrap(), |_, sound| {
            vec![sound.to_vec()]
        });
        name_server(vec![Ipv4Addr::LOCALHOST], 0);
        ip(&["address", "add", "203.0.113.1/32", "dev", "lo"]);
        until("a request", 15, || !server.requests().is_empty());
        daemon.wait_synchronised();
    });
}

#[test]
fn a_route_that_comes_is_used_at_once() {
    alone("route", |name| {
        let socket = UdpSocket::bind("0.0.0.0:12123").unwrap();
        let server = Server::on(socket, |_, sound| vec![sound.to_vec()]);
        let daemon = Setup::new(name).ahead(-30.0).start(&["203.0.113.1:12123"]);
        until("unreachable", 10, || {
            daemon.said("cannot ask 203.0.113.1:12123") == 1
        });
        // By now the next try is seconds away; the route is to bring it forward.
        thread::sleep(Duration::from_secs(8));
        assert!(server.requests().is_empty());
        let routed = Instant::now();
        ip(&["address", "add", "203.0.113.1/32", "dev", "lo"]);
        until("a request", 10, || !server.requests().is_empty());
        let waited = server.requests()[0].at - routed;
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        daemon.wait_synchronised();
    });
}

#[test]
fn servers_of_a_lease_come_first_and_are_noticed_when_they_change() {
    alone("lease", |name| {
        let serve = |address: &str| {
            Server::on(UdpSocket::bind(address).unwrap(), |_, sound| {
                vec![sound.to_vec()]
            })
        };
        let (first, second) = (serve("127.0.0.2:123"), serve("127.0.0.3:123"));
        let configured = Server::lying(0.0);
        let setup = Setup::new(name).file("run/net/eth0", b"interface=eth0\nntp=127.0.0.2\n");
        let mut daemon = setup.start(&["--server", &configured.address]);
        daemon.wait_synchronised();
        assert!(configured.requests().is_empty() && !first.requests().is_empty());
        fs::write(setup.folder.join("run/net/eth1"), "ntp='127.0.0.3'\n").unwrap();
        until("the second lease", 5, || !second.requests().is_empty());
        for interface in ["eth0", "eth1"] {
            fs::remove_file(setup.folder.join("run/net").join(interface)).unwrap();
        }
        until("the configured one", 5, || {
            !configured.requests().is_empty()
        });
        assert!(daemon.end().success());

        let before = first.requests().len();
        let setup = Setup::new("lease-ignored").file("run/net/eth0", b"ntp=127.0.0.2\n");
        let daemon = setup.start(&["--no-dhcp", &configured.address]);
        daemon.wait_synchronised();
        assert_eq!(first.requests().len(), before);
    });
}

#[test]
fn four_servers_give_the_time_long_before_their_bursts_are_over() {
    alone("quick", |name| {
        let servers: Vec<Server> = (0..4).map(|_| Server::lying(0.0)).collect();
        let args: Vec<&str> = servers
            .iter()
            .map(|server| server.address.as_str())
            .collect();
        let started = Instant::now();
        let daemon = Setup::new(name).ahead(-1e6).start(&args);
        daemon.wait_synchronised();
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(daemon.corrections("step").len(), 1);
    });
}

#[test]
fn a_query_for_a_name_without_an_address_says_so() {
    alone("query", |_| {
        name_server(Vec::new(), 0);
        let ntp = Command::new(env!("CARGO_BIN_EXE_ntp"))
            .args(["--query", "nowhere.example"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ntp.stderr).to_string();
        assert_eq!(ntp.status.code(), Some(1), "{said}");
        assert!(
            said.contains("nowhere.example") && said.contains("no address"),
            "{said}"
        );
    });
}

/// In a network of its own, since a route that comes to the machine's is a reason to wake.
#[test]
fn at_rest_it_sleeps() {
    alone("rest", |name| {
        let server = Server::lying(0.0);
        let daemon = Setup::new(name).start(&["--server", &server.address]);
        until("burst", 20, || server.requests().len() >= 4);
        thread::sleep(Duration::from_secs(1));
        let before = daemon.wakeups();
        thread::sleep(Duration::from_secs(15));
        assert!(daemon.wakeups() - before <= 1);
    });
}
