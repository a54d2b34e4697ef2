//! DHCPv6 against a scripted server: what routers start, what servers may answer, and addresses that prove taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::common::{Net, clock, eventually};
use crate::router::{advertisement, prefix, wait_for_link_local};

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REPLY: u8 = 7;
const DECLINE: u8 = 9;
const INFORMATION: u8 = 11;

/// Flags of a router advertisement.
pub(crate) const MANAGED: u8 = 0x80;
pub(crate) const OTHER: u8 = 0x40;

/// A client's message.
#[derive(Debug)]
struct Seen {
    at: std::time::Instant,
    from: SocketAddr,
    kind: u8,
    xid: [u8; 3],
    options: BTreeMap<u16, Vec<u8>>,
}

/// A server that does what a test says.
struct Server(UdpSocket);

impl Server {
    fn new(net: &Net) -> Self {
        let namespace = Path::new("/run/netns").join(net.server_name());
        let thread = std::thread::spawn(move || {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let interface = nix::net::if_::if_nametoindex("dhsrv0").unwrap();
            let socket = UdpSocket::bind("[::]:547").unwrap();
            let all = "ff02::1:2".parse().unwrap();
            socket.join_multicast_v6(&all, interface).unwrap();
            socket
        });
        Self(thread.join().unwrap())
    }

    fn next(&self, milliseconds: u64) -> Option<Seen> {
        let end = clock() + Duration::from_millis(milliseconds);
        self.0
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut buffer = [0; 1500];
        let (len, from) = loop {
            match self.0.recv_from(&mut buffer) {
                Ok(received) => break received,
                Err(_) if clock() < end => {}
                Err(_) => return None,
            }
        };
        let mut options = BTreeMap::new();
        let mut rest = &buffer[4..len];
        while let [a, b, c, d, after @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*c, *d]));
            options.insert(u16::from_be_bytes([*a, *b]), after[..len].to_vec());
            rest = &after[len..];
        }
        Some(Seen {
            at: clock(),
            from,
            kind: buffer[0],
            xid: buffer[1..4].try_into().unwrap(),
            options,
        })
    }

    #[track_caller]
    fn expect(&self, kind: u8, seconds: u64) -> Seen {
        let seen = self.expect_any(seconds);
        assert_eq!(seen.kind, kind, "{seen:?}");
        seen
    }

    #[track_caller]
    fn expect_any(&self, seconds: u64) -> Seen {
        let seen = self.next(seconds * 1000);
        seen.unwrap_or_else(|| panic!("no message within {seconds} s"))
    }

    fn answer(&self, to: &Seen, kind: u8, options: &[Vec<u8>]) {
        let mut bytes = vec![kind];
        bytes.extend(to.xid);
        bytes.extend(option(1, &to.options[&1]));
        bytes.extend(option(2, b"\x00\x02server"));
        bytes.extend(options.concat());
        // After the wire came up, the server's own address must prove unique first.
        eventually(10, "an answer", || self.0.send_to(&bytes, to.from).is_ok());
    }

    /// Advertises and grants an address with these times, T1 and T2 first.
    #[track_caller]
    fn serve(&self, times: [u32; 4]) -> (Seen, Seen) {
        let solicit = self.expect(SOLICIT, 10);
        let grant = [grant(&solicit, times), option(7, &[255])];
        self.answer(&solicit, ADVERTISE, &grant);
        let request = self.expect(REQUEST, 10);
        self.answer(&request, REPLY, &grant);
        (solicit, request)
    }
}

fn option(code: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap();
    [&code.to_be_bytes()[..], &len.to_be_bytes(), payload].concat()
}

/// An association for the client of this message: T1, T2, preferred and valid lifetime.
fn grant(to: &Seen, times: [u32; 4]) -> Vec<u8> {
    let [t1, t2, preferred, valid] = times.map(u32::to_be_bytes);
    let address: Ipv6Addr = "2001:db8::100".parse().unwrap();
    let inner = option(5, &[&address.octets()[..], &preferred, &valid].concat());
    option(3, &[&to.options[&3][..4], &t1, &t2, &inner].concat())
}

fn failure(to: &Seen, status: u8) -> Vec<u8> {
    let inner = option(13, &[0, status]);
    option(3, &[&to.options[&3][..4], &[0; 8], &inner].concat())
}

/// A net whose router says this.
fn told(flags: u8) -> (Net, Server, crate::common::Client) {
    let net = Net::new();
    let wire = net.server();
    let server = Server::new(&net);
    let client = net.client(&["--conflict-check", "off"]);
    wait_for_link_local(&net);
    wire.send_ipv6(&advertisement(flags, &[]));
    (net, server, client)
}

fn has(net: &Net) -> bool {
    net.ip("-6 addr show dev veth0")
        .contains("2001:db8::100/128")
}

#[test]
fn an_address_is_asked_for_by_the_book() {
    let (net, server, client) = told(MANAGED);
    let (solicit, request) = server.serve([0, 0, 300, 600]);
    assert!(solicit.options[&6].chunks(2).any(|code| code == [0, 82]));
    assert!(!solicit.options.contains_key(&20) && !solicit.options.contains_key(&2));
    assert_eq!(request.options[&2], b"\x00\x02server");
    eventually(5, "the address", || has(&net));
    client.signal(Signal::SIGHUP);
    let renew = server.expect(RENEW, 10);
    server.answer(&renew, REPLY, &[grant(&renew, [0, 0, 300, 600])]);
    let shown = net.ip("-6 addr show dev veth0");
    assert!(shown.contains("valid_lft 600sec") || shown.contains("valid_lft 599sec"));
    // The identifier is kept, and the next run uses it.
    let duid = std::fs::read_to_string(net.folder.join("state/client-identifier-duid")).unwrap();
    let hex: String = solicit.options[&1]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(duid.trim(), hex);
    client.signal(Signal::SIGKILL);
    drop(client);
    let other = "00030001deadbeef0001";
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(net.folder.join("state/client-identifier-duid"), other).unwrap();
    let _client = net.client(&["--conflict-check", "off"]);
    let again = server.expect(SOLICIT, 10);
    assert_eq!(
        again.options[&1],
        [0, 3, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 1]
    );
}

#[test]
fn replies_count_only_at_our_own_link_local_address_and_have_room() {
    let (net, server, _client) = told(MANAGED);
    let mut solicit = server.expect(SOLICIT, 10);
    let sockets = net.in_client("ss").arg("-6uamn").output().unwrap();
    let sockets = String::from_utf8(sockets.stdout).unwrap();
    // The kernel doubles what is asked for.
    assert!(sockets.contains(",rb2097152,"), "{sockets}");
    let offer = [grant(&solicit, [0, 0, 300, 600]), option(7, &[255])];
    let own = solicit.from;
    solicit
        .from
        .set_ip(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into());
    server.answer(&solicit, ADVERTISE, &offer);
    let early = server.next(500).map(|seen| seen.kind);
    assert!(early.is_none_or(|kind| kind == SOLICIT), "{early:?}");
    solicit.from = own;
    server.answer(&solicit, ADVERTISE, &offer);
    let next = || std::iter::repeat_with(|| server.expect_any(10));
    assert!(
        next()
            .find(|seen| seen.kind != SOLICIT)
            .is_some_and(|seen| seen.kind == REQUEST)
    );
}

/// A stopped client's share of the kernel's news is full before the router speaks.
#[test]
fn a_router_that_speaks_while_events_are_lost_is_heeded() {
    let net = Net::new();
    let wire = net.server();
    let server = Server::new(&net);
    let client = net.client(&["--conflict-check", "off"]);
    wait_for_link_local(&net);
    eventually(10, "the start", || client.log().contains("discovering"));
    client.signal(Signal::SIGSTOP);
    let lines: String = (0..2500)
        .map(|n| format!("addr add 10.9.{}.{}/32 dev lo\n", n / 250, n % 250))
        .collect();
    let batch = net.folder.join("batch");
    crate::interop::write(&batch, &lines);
    let status = net.in_client("ip").arg("-batch").arg(&batch).status();
    assert!(status.unwrap().success());
    wire.send_ipv6(&advertisement(MANAGED, &prefix(3600)));
    eventually(10, "the kernel's part", || {
        net.ip("-6 addr show dev veth0").contains("2001:db8:1:")
    });
    client.signal(Signal::SIGCONT);
    server.expect(SOLICIT, 20);
}

/// The kernel counts a router as heard only after a solicitation of its own; the router may be faster.
#[test]
fn a_router_that_was_not_asked_is_heeded() {
    let net = Net::new();
    let wire = net.server();
    let server = Server::new(&net);
    let unasked = "/proc/sys/net/ipv6/conf/veth0/router_solicitations";
    let write = format!("echo 0 > {unasked}");
    let status = net.in_client("sh").args(["-c", &write]).status().unwrap();
    assert!(status.success());
    net.ip("link set veth0 down");
    net.ip("link set veth0 up");
    let _client = net.client(&["--conflict-check", "off"]);
    wait_for_link_local(&net);
    wire.send_ipv6(&advertisement(MANAGED, &[]));
    server.expect(SOLICIT, 10);
    // Nor does it tell anew when a link that was set down has the same router.
    net.ip("link set veth0 down");
    while server.next(1).is_some() {}
    net.ip("link set veth0 up");
    server.expect(SOLICIT, 20);
}

#[test]
fn an_address_that_proves_taken_is_declined_and_not_put_back() {
    let (net, server, client) = told(MANAGED);
    net.server_ip("addr add 2001:db8::100/64 dev dhsrv0 nodad");
    server.serve([0, 0, 300, 600]);
    let decline = server.expect(DECLINE, 10);
    let address: Ipv6Addr = "2001:db8::100".parse().unwrap();
    let inner = &decline.options[&3][16..32];
    assert_eq!(inner, address.octets());
    assert_eq!(decline.options[&2], b"\x00\x02server");
    server.answer(&decline, REPLY, &[option(13, &[0, 0])]);
    let again = server.expect(SOLICIT, 20);
    assert!(again.at.duration_since(decline.at) >= Duration::from_secs(9));
    assert!(!has(&net));
    let log = client.log();
    assert!(
        log.contains("2001:db8::100 is in use by another host"),
        "{log}"
    );
    assert!(!log.contains("putting it back"), "{log}");
}

#[test]
fn a_server_chooses_the_longest_wait_with_a_refusal() {
    let (_net, server, mut client) = told(OTHER);
    let ask = server.expect(INFORMATION, 10);
    assert!(ask.options[&6].chunks(2).any(|code| code == [0, 83]));
    assert!(!ask.options.contains_key(&3));
    server.answer(
        &ask,
        REPLY,
        &[option(13, &[0, 1]), option(83, &[0, 0, 0, 60])],
    );
    // A refusal is no settings: it is asked on.
    server.expect(INFORMATION, 10);
    assert!(client.is_alive());
}

#[test]
fn a_renewal_survives_a_server_without_addresses_and_ends_with_a_void_lease() {
    let (net, server, _client) = told(MANAGED);
    server.serve([2, 600, 900, 900]);
    eventually(5, "the address", || has(&net));
    let renew = server.expect(RENEW, 10);
    server.answer(&renew, REPLY, &[]);
    assert!(server.next(500).is_none() && has(&net));
    let renew = server.expect(RENEW, 20);
    server.answer(&renew, REPLY, &[failure(&renew, 3)]);
    let request = server.expect(REQUEST, 5);
    server.answer(&request, REPLY, &[grant(&request, [2, 600, 900, 900])]);
    let renew = server.expect(RENEW, 10);
    server.answer(&renew, REPLY, &[grant(&renew, [0, 0, 0, 0])]);
    eventually(5, "its end", || !has(&net));
    server.expect(SOLICIT, 10);
}

#[test]
fn a_returned_carrier_is_followed_by_a_question() {
    let (net, server, _client) = told(MANAGED);
    server.serve([0, 0, 900, 900]);
    eventually(5, "the address", || has(&net));
    net.server_ip("link set dhsrv0 down");
    eventually(5, "the loss", || {
        net.ip("link show dev veth0").contains("NO-CARRIER")
    });
    net.server_ip("link set dhsrv0 up");
    let confirm = server.expect(CONFIRM, 20);
    assert!(!confirm.options.contains_key(&2) && !confirm.options.contains_key(&6));
    server.answer(&confirm, REPLY, &[option(13, &[0, 4])]);
    eventually(5, "the end of what is not good here", || !has(&net));
}
