//! How long after the default route the clock is synchronised: `cargo xtask bench ntp`.
//!
//! Two networks joined by a link: ours, and one with a name server and four NTP servers behind its router, 5 ms away.
//! The daemon starts without a route, as at boot, with one name that stands for all four servers; the clock is 56 years
//! behind. Measured from the moment at which the route is asked for; the slowest of several starts counts.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test reads clocks and is to fail where it cannot go on; the harness serves other tests too"
)]

#[path = "../tests/common/harness.rs"]
mod harness;
#[path = "../tests/common/network.rs"]
mod network;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use harness::{Server, Setup, until};
use network::{alone_with, ip, name_server_on};

const STARTS: u32 = 5;

/// One way over the link.
const WAY: Duration = Duration::from_millis(5);

const NAMES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// The network beyond our router, until the process ends.
fn far_network() {
    let (report, made) = channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        report.send(gettid()).unwrap();
        until("the link", 20, || ip_works(&["link", "show", "nt-far"]));
        for address in ["198.51.100.1/29", "198.51.100.9/32"] {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        ip(&["link", "set", "lo", "up"]);
        ip(&["address", "add", "192.0.2.1/30", "dev", "nt-far"]);
        ip(&["link", "set", "nt-far", "up"]);
        let addresses: Vec<Ipv4Addr> = (1..=4)
            .map(|last| Ipv4Addr::new(198, 51, 100, last))
            .collect();
        addresses.iter().copied().for_each(serve);
        name_server_on(UdpSocket::bind((NAMES, 53)).unwrap(), addresses, 0);
        report.send(gettid()).unwrap();
    });
    let far = made.recv().unwrap().to_string();
    ip(&[
        "link", "add", "nt-near", "type", "veth", "peer", "name", "nt-far", "netns", &far,
    ]);
    made.recv().unwrap();
    ip(&["address", "add", "192.0.2.2/30", "dev", "nt-near"]);
    ip(&["link", "set", "nt-near", "up"]);
}

fn ip_works(args: &[&str]) -> bool {
    let output = std::process::Command::new("ip").args(args).output();
    output.is_ok_and(|output| output.status.success())
}

fn serve(address: Ipv4Addr) {
    Server::on(UdpSocket::bind((address, 123)).unwrap(), |request, _| {
        thread::sleep(WAY);
        let reply = harness::reply(&request.bytes, 0.0);
        thread::sleep(WAY);
        vec![reply.to_vec()]
    });
}

/// From the route to the state that others read.
fn start(number: u32) -> Duration {
    let daemon = Setup::new(&format!("start-{number}"))
        .ahead(-1.7e9)
        .start(&["--server", "pool.example"]);
    until("the start", 20, || daemon.said("asking pool.example") == 1);
    thread::sleep(Duration::from_secs(2));
    assert!(!daemon.state().synchronised);
    let routed = Instant::now();
    ip(&["route", "add", "default", "via", "192.0.2.1"]);
    while !daemon.state().synchronised {
        assert!(
            routed.elapsed() < Duration::from_secs(30),
            "never synchronised"
        );
        thread::sleep(Duration::from_millis(1));
    }
    let took = routed.elapsed();
    ip(&["route", "del", "default"]);
    took
}

fn main() {
    let resolver = format!("nameserver {NAMES}\n");
    alone_with("start", &resolver, |_| {
        far_network();
        let slowest = (0..STARTS).map(start).max().unwrap();
        println!("ntp_start_us={}", slowest.as_micros());
    });
}
