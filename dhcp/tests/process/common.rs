//! Two namespaces with a wire between them, the built client in one, a scripted server in the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gokrazy_dhcp::frame::{self, Arp};
use gokrazy_sys::packet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Name of the client's end of the wire.
pub(crate) const LINK: &str = "veth0";
/// Name of the server's end.
const SERVER_LINK: &str = "dhsrv0";
/// The server's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The address that it gives.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);

/// Runs a command to its end; its standard output.
#[track_caller]
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!("run {program}: {error}; `apt-get install iproute2 util-linux` supplies what these tests need")
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {text} (these tests need root)"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests of real time read the clock"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// Polls until `condition` holds, or fails after `seconds`.
#[track_caller]
pub(crate) fn eventually(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let end = clock() + Duration::from_secs(seconds);
    while !condition() {
        assert!(clock() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Two namespaces with a wire between them, and a folder.
pub(crate) struct Net {
    client: String,
    server: String,
    pub(crate) folder: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Net {
    pub(crate) fn new() -> Self {
        let id = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let (client, server) = (format!("dh-c{id}"), format!("dh-s{id}"));
        for name in [&client, &server] {
            run("ip", &["netns", "add", name]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        let folder = std::env::temp_dir().join(format!("dh-{id}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let net = Self {
            client,
            server,
            folder,
        };
        net.plug(LINK, SERVER_LINK);
        run(
            "ip",
            &[
                "-n",
                &net.server,
                "addr",
                "add",
                "192.0.2.1/24",
                "dev",
                SERVER_LINK,
            ],
        );
        net
    }

    /// Adds a wire.
    pub(crate) fn plug(&self, client_end: &str, server_end: &str) {
        run(
            "ip",
            &[
                "link",
                "add",
                server_end,
                "netns",
                &self.server,
                "type",
                "veth",
                "peer",
                "name",
                client_end,
                "netns",
                &self.client,
            ],
        );
        run("ip", &["-n", &self.server, "link", "set", server_end, "up"]);
        run("ip", &["-n", &self.client, "link", "set", client_end, "up"]);
        // Until the kernel has noticed the carrier, which can take it a second, it drops what is sent.
        eventually(5, "the wire", || {
            self.server_ip(&format!("link show dev {server_end}"))
                .contains("state UP")
        });
    }

    /// Name of the server's namespace.
    pub(crate) fn server_name(&self) -> &str {
        &self.server
    }

    /// `ip` on the client's side.
    pub(crate) fn ip(&self, args: &str) -> String {
        let args: Vec<&str> = ["-n", &self.client]
            .into_iter()
            .chain(args.split(' '))
            .collect();
        run("ip", &args)
    }

    /// `ip` on the server's side.
    pub(crate) fn server_ip(&self, args: &str) -> String {
        let args: Vec<&str> = ["-n", &self.server]
            .into_iter()
            .chain(args.split(' '))
            .collect();
        run("ip", &args)
    }

    /// A command in the server's namespace.
    pub(crate) fn in_server(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server, program]);
        command
    }

    /// A command in the client's namespace.
    pub(crate) fn in_client(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.client, program]);
        command
    }

    /// Processes of this name in the client's namespace.
    pub(crate) fn processes(&self, name: &str) -> Vec<String> {
        let pids = run("ip", &["netns", "pids", &self.client]);
        let called = |pid: &&str| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.unwrap_or_default().trim() == name
        };
        pids.lines().filter(called).map(str::to_owned).collect()
    }

    /// The client's flags for this net's folders.
    pub(crate) fn folders(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![
            "--state-dir".into(),
            path("state"),
            "--run-dir".into(),
            path("run"),
        ]
    }

    /// Starts the client on [`LINK`] with these flags too.
    pub(crate) fn client(&self, flags: &[&str]) -> Client {
        let log = self.folder.join("log");
        let mut command = self.in_client(env!("CARGO_BIN_EXE_dhcp"));
        command
            .args(["--interface", LINK])
            .args(self.folders())
            .args(flags);
        #[expect(clippy::disallowed_methods, reason = "a test's log is no shared file")]
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Client { child, log }
    }

    pub(crate) fn server(&self) -> Server {
        Server::new(&self.server, SERVER_LINK)
    }

    /// Whether the client's link has this address.
    pub(crate) fn has(&self, address: &str) -> bool {
        self.ip("-4 addr show dev veth0")
            .contains(&format!("inet {address}"))
    }

    /// A file below the run folder.
    pub(crate) fn published(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join("run").join(name)).ok()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            let pids = Command::new("ip").args(["netns", "pids", name]).output();
            let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            for pid in pids
                .unwrap_or_default()
                .lines()
                .filter_map(|pid| pid.trim().parse().ok())
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A running client.
pub(crate) struct Client {
    child: Child,
    log: PathBuf,
}

impl Client {
    /// `ip netns exec` becomes the client by exec, so its pid is the client's.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; its exit code.
    #[track_caller]
    pub(crate) fn exit(&mut self, seconds: u64) -> Option<i32> {
        let mut code = None;
        eventually(seconds, "the client's end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    #[track_caller]
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.exit(5), Some(0), "{}", self.log());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = self.child.kill();
            let _ = self.child.try_wait();
        }
        if std::thread::panicking() {
            eprintln!("the client's log:\n{}", self.log());
        }
    }
}

/// What a client has sent.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    /// The DHCP message.
    pub(crate) message: Vec<u8>,
    pub(crate) options: BTreeMap<u8, Vec<u8>>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (secs, client) = (self.secs(), self.client());
        write!(
            f,
            "{} > {} secs {secs} client {client} {:?}",
            self.source, self.destination, self.options
        )
    }
}

impl Seen {
    pub(crate) fn kind(&self) -> u8 {
        self.options[&53][0]
    }

    pub(crate) fn xid(&self) -> [u8; 4] {
        self.message[4..8].try_into().unwrap()
    }

    pub(crate) fn secs(&self) -> u16 {
        u16::from_be_bytes(self.message[8..10].try_into().unwrap())
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_be_bytes(self.message[10..12].try_into().unwrap())
    }

    pub(crate) fn client(&self) -> Ipv4Addr {
        let bytes: [u8; 4] = self.message[12..16].try_into().unwrap();
        bytes.into()
    }

    pub(crate) fn address(&self, option: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.options.get(&option)?.as_slice().try_into().ok()?;
        Some(bytes.into())
    }
}

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const DECLINE: u8 = 4;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;
pub(crate) const RELEASE: u8 = 7;

/// `ETH_P_IPV6`.
const IPV6: u16 = 0x86dd;

/// A server that does what a test says, and nothing by itself.
pub(crate) struct Server {
    ip: OwnedFd,
    ipv6: OwnedFd,
    arp: OwnedFd,
    interface: u32,
}

impl Server {
    /// Sockets belong to the namespace that they are made in, so one thread enters it and hands them out.
    fn new(namespace: &str, link: &str) -> Self {
        let path = Path::new("/run/netns").join(namespace);
        let link = link.to_owned();
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let interface = nix::net::if_::if_nametoindex(link.as_str()).unwrap();
            let open = |protocol| {
                let socket = packet::open().unwrap();
                packet::enable_auxiliary_data(socket.as_fd()).unwrap();
                packet::bind(socket.as_fd(), protocol, interface).unwrap();
                socket
            };
            Self {
                ip: open(packet::IPV4),
                ipv6: open(IPV6),
                arp: open(packet::ARP),
                interface,
            }
        });
        thread.join().unwrap()
    }

    /// The next DHCP message of the client, if one comes within `milliseconds`.
    pub(crate) fn next(&self, milliseconds: u64) -> Option<Seen> {
        await_packet(&self.ip, milliseconds, parse)
    }

    /// The next message of ICMP, an IPv4 packet, if one comes within `milliseconds`.
    pub(crate) fn next_icmp(&self, milliseconds: u64) -> Option<Vec<u8>> {
        let icmp = |packet: &[u8]| (packet.get(9) == Some(&1)).then(|| packet.to_vec());
        await_packet(&self.ip, milliseconds, icmp)
    }

    /// The next message, which must be of this kind.
    #[track_caller]
    pub(crate) fn expect(&self, kind: u8, seconds: u64) -> Seen {
        let seen = self
            .next(seconds * 1000)
            .unwrap_or_else(|| panic!("no message of kind {kind} within {seconds} s"));
        assert_eq!(seen.kind(), kind, "{seen:?}");
        seen
    }

    /// The next ARP packet that `wanted` picks.
    pub(crate) fn next_arp(&self, milliseconds: u64, wanted: impl Fn(&Arp) -> bool) -> Option<Arp> {
        let arp = |packet: &[u8]| Arp::decode(packet).filter(&wanted);
        await_packet(&self.arp, milliseconds, arp)
    }

    pub(crate) fn send_arp(&self, arp: &Arp) {
        packet::send(
            self.arp.as_fd(),
            &arp.encode(),
            packet::ARP,
            self.interface,
            packet::BROADCAST,
        )
        .unwrap();
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.send_to(packet, packet::BROADCAST);
    }

    /// Sends an IPv4 packet to one hardware address.
    pub(crate) fn send_to(&self, packet: &[u8], mac: [u8; 6]) {
        packet::send(self.ip.as_fd(), packet, packet::IPV4, self.interface, mac).unwrap();
    }

    /// The next question to routers, an IPv6 packet, if one comes within `milliseconds`.
    pub(crate) fn next_solicitation(&self, milliseconds: u64) -> Option<Vec<u8>> {
        await_packet(&self.ipv6, milliseconds, |packet| {
            let asks = packet.get(6) == Some(&58) && packet.get(40) == Some(&133);
            asks.then(|| packet.to_vec())
        })
    }

    /// Sends an IPv6 packet to all nodes of the link.
    pub(crate) fn send_ipv6(&self, packet: &[u8]) {
        let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
        let send = || packet::send(self.ipv6.as_fd(), packet, IPV6, self.interface, all_nodes);
        // A wire that was down meanwhile is told of once.
        send().or_else(|_| send()).unwrap();
    }

    /// Answers `to` with this kind, address and further options.
    pub(crate) fn reply(&self, to: &Seen, kind: u8, options: &[&[u8]]) {
        self.send(&carry(&message(to, kind, options)));
    }

    /// Serves one lease: offer and acknowledgement.
    #[track_caller]
    pub(crate) fn serve(&self, options: &[&[u8]]) -> (Seen, Seen) {
        let discover = self.expect(DISCOVER, 10);
        self.reply(&discover, OFFER, options);
        let request = self.expect(REQUEST, 10);
        self.reply(&request, ACK, options);
        (discover, request)
    }
}

/// The next packet from which `parse` makes something.
fn await_packet<T>(
    socket: &OwnedFd,
    milliseconds: u64,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let end = clock() + Duration::from_millis(milliseconds);
    loop {
        let mut buffer = [0; 2048];
        if let Ok(received) = packet::receive(socket.as_fd(), &mut buffer) {
            let parsed = parse(&buffer[..received.len]);
            if parsed.is_some() {
                return parsed;
            }
        } else if !wait(socket, end) {
            return None;
        }
    }
}

fn wait(socket: &OwnedFd, end: Instant) -> bool {
    let left = end.saturating_duration_since(clock());
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let left = PollTimeout::try_from(left).unwrap();
    poll(&mut polled, left).unwrap() > 0
}

/// Subnet mask, router, DNS server and a lease of so many seconds.
pub(crate) fn lease(seconds: u32) -> Vec<u8> {
    let mut options = vec![
        1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 6, 4, 192, 0, 2, 53, 51, 4,
    ];
    options.extend(seconds.to_be_bytes());
    options
}

/// A reply's DHCP message.
pub(crate) fn message(to: &Seen, kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(to.xid());
    bytes.extend([0; 8]);
    bytes.extend(if kind == NAK {
        [0; 4]
    } else {
        ADDRESS.octets()
    });
    bytes.extend([0; 8]);
    bytes.extend(&to.message[28..44]);
    bytes.extend([0; 192]);
    bytes.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    bytes.extend(SERVER.octets());
    bytes.extend(options.concat());
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// A reply's packet, from port 67 to port 68.
pub(crate) fn carry(message: &[u8]) -> Vec<u8> {
    carry_to(Ipv4Addr::BROADCAST, message)
}

/// The same, to one address.
pub(crate) fn carry_to(destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = frame::wrap(SERVER, destination, message);
    // Ports swapped, which leaves the checksum as it is.
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    packet
}

/// A client's message in an IPv4 packet: UDP from port 68 to port 67.
fn parse(packet: &[u8]) -> Option<Seen> {
    if packet.len() < 28 + 240 || packet[9] != 17 || packet[20..24] != [0, 68, 0, 67] {
        return None;
    }
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    let message = packet[28..].to_vec();
    let mut options = BTreeMap::new();
    let mut rest = &message[240..];
    while let [code, len, after @ ..] = rest {
        if *code == 255 {
            break;
        }
        options.insert(*code, after[..usize::from(*len)].to_vec());
        rest = &after[usize::from(*len)..];
    }
    Some(Seen {
        at: clock(),
        source: address(12),
        destination: address(16),
        message,
        options,
    })
}
