//! A network of its own for a test, and a name server in it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::harness::Setup;

/// A name server that hangs does so for longer than a test waits for anything.
const HANGS: &str = "options timeout:30\n";

/// Runs a test on a thread with a network of its own, in which only loopback is up, and names are asked of 127.0.0.1.
pub(crate) fn alone(name: &'static str, test: impl FnOnce(&'static str) + Send + 'static) {
    alone_with(name, &format!("nameserver 127.0.0.1\n{HANGS}"), test);
}

/// The same with another resolv.conf(5).
pub(crate) fn alone_with(
    name: &'static str,
    resolver: &str,
    test: impl FnOnce(&'static str) + Send + 'static,
) {
    let resolver = resolver.to_owned();
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
        fs::write(&file, resolver).unwrap();
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

/// iproute2's `ip` in this thread's network.
pub(crate) fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {args:?}: apt-get install iproute2"
    );
}

/// A name server that gives `addresses` for every A question after the first `failures` questions, and nothing
/// for all others.
pub(crate) fn name_server(addresses: Vec<Ipv4Addr>, failures: usize) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    name_server_on(socket, addresses, failures)
}

/// The same on a given socket.
pub(crate) fn name_server_on(
    socket: UdpSocket,
    addresses: Vec<Ipv4Addr>,
    failures: usize,
) -> Arc<AtomicUsize> {
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
