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

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Setup, until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread with a network of its own, in which only loopback is up, and names are asked of 127.0.0.1.
fn alone(name: &'static str, test: impl FnOnce(&'static str) + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap_or_else(|error| {
            panic!("make a network namespace: {error}: run the tests as root")
        });
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        ip(&["link", "set", "lo", "up"]);
        let setup = Setup::new(&format!("{name}-dns"));
        let file = setup.folder.join("resolv.conf");
        fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
        let target = fs::canonicalize("/etc/resolv.conf").unwrap();
        mount(
            Some(&file),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        test(name);
        fs::remove_dir_all(setup.folder).unwrap();
    };
    let done = thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .unwrap()
        .join();
    assert!(done.is_ok(), "{name}");
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {args:?}: apt-get install iproute2"
    );
}

/// A name server that gives `addresses` for every A question after the first `failures` questions, and nothing
/// for all others.
fn name_server(addresses: Vec<Ipv4Addr>, failures: usize) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_a = question[end - 3] == 1;
            let number = count.fetch_add(1, Ordering::SeqCst);
            let given: &[Ipv4Addr] = if is_a && number >= failures {
                &addresses
            } else {
                &[]
            };
            let mut reply = question[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[6..12].copy_from_slice(&[0, given.len() as u8, 0, 0, 0, 0]);
            for address in given {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(address.octets());
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    asked
}

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
