//! DHCP clients in a namespace of their own, each before the same server, one after the other.
//!
//! A client runs in a mount namespace with folders of its own over `/run` and `/var/lib`, and with a file of its own
//! over `/etc/resolv.conf`: what it or its script writes is seen by nobody and gone with it.
//! A shell waits there for a line and then becomes the client, so that the clock starts with the client and not with
//! what surrounds it; the cost of the shell is the same for all.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gokrazy_core::atomic::{self, Durability};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;

use super::stand::family;
use crate::clock::{self, Stopwatch};
use crate::process;
use crate::vm::lan::{Lan, Plug};

/// The clients' interface.
pub(super) const LINK: &str = "eth0";

/// What surrounds a client. `$1` is a folder of the bench's; the rest is the command.
const SURROUNDINGS: &str = "set -e; mount --make-rprivate /; touch \"$1/resolv.conf\"; \
    [ ! -e /etc/resolv.conf ] || mount --bind \"$1/resolv.conf\" /etc/resolv.conf; \
    mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/dhcp /var/lib/dhcpcd; \
    shift; echo ready; read go; exec \"$@\"";

/// What udhcpc and dhclient run to configure the address, each with its own names for it.
const SCRIPT: &str = "#!/bin/sh\ncase $1$reason in\nbound | BOUND)\n\
    exec ip addr add \"${ip:-$new_ip_address}/24\" dev \"$interface\" ;;\nesac\n";

/// How long a client may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The network and a folder.
pub(super) struct Stand {
    lan: Lan,
    folder: PathBuf,
}

/// A client that runs; dropped, it is gone with its children.
pub(super) struct Running {
    child: Child,
    // Open until the end, since some clients end with it.
    _stdin: ChildStdin,
    /// The clock that started with it.
    pub(super) started: Stopwatch,
}

impl Stand {
    /// A network with a server, and nobody plugged in yet.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "namespaces need root: sudo -E cargo xtask bench dhcp"
        );
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let lan = Lan::new(&folder.join("lan"), Plug::Pair)?;
        let stand = Self {
            lan,
            folder: folder.to_owned(),
        };
        let script = stand.script();
        atomic::replace(&script, SCRIPT.as_bytes(), 0o755, Durability::Volatile)
            .context("write the clients' script")?;
        stand.ip(&["link", "set", LINK, "up"])?;
        Ok(stand)
    }

    /// The script that configures the address for clients that do not do so themselves.
    pub(super) fn script(&self) -> PathBuf {
        self.folder.join("script")
    }

    /// Runs `ip` at the plug.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<()> {
        self.lan
            .at_the_plug(|| process::capture(Command::new("ip").args(arguments)).map(drop))
    }

    /// Starts a client, with nothing left of the one before.
    pub(super) fn start(&self, command: &[String]) -> Result<Running> {
        self.ip(&["addr", "flush", "dev", LINK, "scope", "global"])?;
        self.ip(&["route", "flush", "dev", LINK])?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("clients.log"))
            .context("open the clients' log")?;
        self.lan.at_the_plug(move || {
            let mut launcher = Command::new("unshare");
            launcher
                .args(["--mount", "sh", "-c", SURROUNDINGS, "sh"])
                .arg(&self.folder)
                .args(command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log);
            let mut child = launcher.spawn().context("start a client's surroundings")?;
            let mut output = child.stdout.take().context("read from a client")?;
            let mut ready = [0; 6];
            output.read_exact(&mut ready).context("prepare a client")?;
            // Read on, so that it cannot be stopped by a full pipe.
            thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            let mut stdin = child.stdin.take().context("write to a client")?;
            let started = Stopwatch::start();
            stdin.write_all(b"go\n").context("start a client")?;
            Ok(Running {
                child,
                _stdin: stdin,
                started,
            })
        })
    }

    /// Starts a client; returns it, and the time from its start to an address.
    pub(super) fn time(&self, command: &[String]) -> Result<(Running, Duration)> {
        self.lan.at_the_plug(|| {
            let mut monitor = Command::new("timeout");
            let limit = LIMIT.as_secs().to_string();
            monitor.args([&limit, "ip", "-4", "-o", "monitor", "address", "dev", LINK]);
            let mut monitor = monitor
                .stdout(Stdio::piped())
                .spawn()
                .context("watch for addresses")?;
            let lines = BufReader::new(monitor.stdout.take().context("read addresses")?).lines();
            // It is watching once it sleeps, which nothing tells; the address that is flushed by then is passed over.
            thread::sleep(Duration::from_millis(100));
            let running = self.start(command)?;
            let mut lines = lines.map_while(Result::ok);
            let found = lines.find(|line| line.contains("inet ") && !line.contains("Deleted"));
            let took = running.started.elapsed();
            end(&mut monitor);
            found.with_context(|| format!("an address of {command:?}"))?;
            Ok((running, took))
        })
    }

    /// The same, and the time from the last probe for the address (RFC 5227) to its configuration.
    pub(super) fn time_since_last_probe(&self, command: &[String]) -> Result<Duration> {
        let last = Arc::new(Mutex::new(None));
        let watched = Arc::clone(&last);
        let socket = self.tap()?;
        // It ends with the process: packets are all that it waits for.
        thread::spawn(move || note_probes(socket, &watched));
        let (running, took) = self.time(command)?;
        let seen: Option<Stopwatch> =
            *last.lock().map_err(|_| anyhow::anyhow!("watch the wire"))?;
        let seen = seen.context("a probe of the client")?;
        let probed_after = running.started.elapsed().saturating_sub(seen.elapsed());
        Ok(took.saturating_sub(probed_after))
    }

    /// A tap on the wire, which hears what is sent from now on.
    pub(super) fn tap(&self) -> Result<File> {
        self.lan.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let family = AddressFamily::Packet;
            let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll);
            Ok(File::from(socket.context("watch the wire")?))
        })
    }

    /// Sends so many forged replies a second for `time` to all at the plug, who have this hardware address.
    pub(super) fn flood(&self, forged: Forged, each_second: u32, time: Duration) -> Result<()> {
        self.lan.inside(|| {
            let socket = server_socket()?;
            let watch = Stopwatch::start();
            let mut sent = 0_u32;
            while watch.elapsed() < time {
                let due = watch.elapsed().as_secs_f64() * f64::from(each_second);
                while f64::from(sent) < due {
                    socket
                        .send_to(&forged.reply(sent), "10.67.75.255:68")
                        .context("send a forged reply")?;
                    sent = sent.saturating_add(1);
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
    }
}

/// Replies that no server has sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forged {
    /// For whom.
    pub(super) mac: [u8; 6],
    /// The transaction id that the client awaits, for who has seen it; else each has another one.
    pub(super) xid: Option<[u8; 4]>,
}

impl Forged {
    /// An offer for no time at all, so that it is none also where the transaction id is right.
    fn reply(self, number: u32) -> Vec<u8> {
        let mut reply = vec![2, 1, 6, 0];
        reply.extend(self.xid.unwrap_or(number.to_be_bytes()));
        reply.resize(16, 0);
        reply.extend([10, 67, 75, 66]);
        reply.resize(28, 0);
        reply.extend(self.mac);
        reply.resize(236, 0);
        reply.extend([
            99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 67, 75, 1, 51, 4, 0, 0, 0, 0, 255,
        ]);
        reply.resize(300, 0);
        reply
    }
}

/// The transaction id of the next DHCP message from `mac` on the wire.
pub(super) fn transaction(mut wire: File, mac: [u8; 6]) -> Result<[u8; 4]> {
    let mut frame = [0; 2048];
    loop {
        let len = wire.read(&mut frame).context("watch the wire")?;
        let frame = frame.get(..len).unwrap_or_default();
        // Ethernet, IPv4 without options, UDP: 42 bytes before the message.
        let asks = frame.get(12..14) == Some(&[8, 0]) && frame.get(34..38) == Some(&[0, 68, 0, 67]);
        let xid = frame.get(46..50).and_then(|xid| xid.try_into().ok());
        if let Some(xid) = xid
            && asks
            && frame.get(70..76) == Some(&mac)
        {
            return Ok(xid);
        }
    }
}

/// A socket at the servers' port beside the server's own.
fn server_socket() -> Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let address = SockaddrIn::new(10, 67, 75, 1, 67);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).context("bind to port 67")?;
    let socket = UdpSocket::from(socket);
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// Notes when the last ARP probe passed: a request from nobody.
fn note_probes(mut wire: File, last: &Mutex<Option<Stopwatch>>) {
    let mut frame = [0; 2048];
    while let Ok(len) = wire.read(&mut frame) {
        let frame = frame.get(..len).unwrap_or_default();
        let kind = frame.get(12..14);
        let (operation, sender) = (frame.get(20..22), frame.get(28..32));
        let probe = kind == Some(&[8, 6]) && operation == Some(&[0, 1]);
        if probe
            && sender == Some(&[0; 4])
            && let Ok(mut last) = last.lock()
        {
            *last = Some(Stopwatch::start());
        }
    }
}

impl Running {
    /// Its process and those that it started.
    pub(super) fn processes(&self) -> Vec<u32> {
        family(self.child.id())
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for id in self.processes().into_iter().skip(1) {
            // It fails only for one that is gone already.
            let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
        }
        end(&mut self.child);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask is no supervisor: nobody else reaps this child"
)]
fn end(child: &mut Child) {
    // Both fail only if it is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until nothing happens at the plug any more.
pub(super) fn settle() {
    let _: Option<()> = clock::poll(Duration::from_secs(8), Duration::from_secs(1), || None);
}
