//! Opens and closes listening sockets as addresses come and go.
//!
//! Which ones is [`super::listen`]'s decision.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gokrazy_core::{addresses::Addresses, paths, regular_file};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::task::JoinHandle;

use super::config::Listen;
use super::listen::{change, wanted};
use super::peer::Peer;
use super::report::report;
use super::serve::Server;
use super::watch::FileWatch;

/// Connections that the kernel keeps ready for us.
const BACKLOG: u32 = 128;
/// First pause before an address that could not be bound is tried again; an IPv6 address just set needs a second
/// or two until the kernel knows that nobody else has it (RFC 4862 §5.4).
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Pause after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// A peer that acknowledges nothing for so long, in milliseconds, is gone (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT_MS: u32 = 60_000;

/// Serves `listen` for ever.
///
/// # Errors
/// A fixed address that cannot be listened on, or no inotify instance to follow the addresses with.
pub async fn run(server: Arc<Server>, listen: Listen, run_dir: &Path) -> anyhow::Result<()> {
    if let Listen::Fixed(fixed) = &listen {
        let mut tasks = Vec::new();
        for &address in fixed {
            let listener = bind(address).with_context(|| format!("listen on {address}"))?;
            tasks.push(start(&server, listener));
        }
        for task in tasks {
            task.await.context("accept connections")?;
        }
        return Ok(());
    }
    let path = run_dir.join(paths::ADDRESSES);
    let watch = FileWatch::new(path.clone()).context("watch the addresses")?;
    let mut held = Held::default();
    loop {
        watch.arm();
        let addresses = read(&path);
        let pause = held.follow(&server, &wanted(&listen, addresses.as_ref()));
        let changed = watch.changed();
        match pause {
            // A pause that ends without a change is as good a reason to look again.
            Some(pause) => match tokio::time::timeout(pause, changed).await {
                Ok(changed) => changed.context("watch the addresses")?,
                Err(_elapsed) => {}
            },
            None => changed.await.context("watch the addresses")?,
        }
    }
}

/// A file that is no list of addresses is as good as none, and says so once.
fn read(path: &Path) -> Option<Addresses> {
    let text = regular_file::read(path, regular_file::STATE_MAX).ok()?;
    match Addresses::parse(&text) {
        Ok(addresses) => Some(addresses),
        Err(error) => {
            report(format_args!(
                "{}: {error}; serving loopback only",
                path.display()
            ));
            None
        }
    }
}

#[derive(Default)]
struct Held {
    listeners: BTreeMap<SocketAddr, JoinHandle<()>>,
    failing: Vec<SocketAddr>,
    pause: Option<Duration>,
}

impl Held {
    /// Closes and opens; returns after which pause to try again what could not be opened.
    fn follow(&mut self, server: &Arc<Server>, wanted: &[SocketAddr]) -> Option<Duration> {
        let held: Vec<_> = self.listeners.keys().copied().collect();
        let change = change(&held, wanted);
        for address in change.close {
            if let Some(task) = self.listeners.remove(&address) {
                task.abort();
                report(format_args!("no longer listening on {address}"));
            }
        }
        self.failing.retain(|address| wanted.contains(address));
        for address in change.open {
            self.open(server, address);
        }
        self.pause = match (self.failing.is_empty(), self.pause) {
            (true, _) => None,
            (false, None) => Some(FIRST_RETRY),
            (false, Some(pause)) => Some(pause.saturating_mul(2).min(LONGEST_RETRY)),
        };
        self.pause
    }

    fn open(&mut self, server: &Arc<Server>, address: SocketAddr) {
        match bind(address) {
            Ok(listener) => {
                self.failing.retain(|failing| *failing != address);
                self.listeners.insert(address, start(server, listener));
            }
            Err(error) if !self.failing.contains(&address) => {
                report(format_args!("listen on {address}: {error}; trying again"));
                self.failing.push(address);
                // A new failure is looked after soon, however patient we are with older ones.
                self.pause = None;
            }
            Err(_) => {}
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn start(server: &Arc<Server>, listener: TcpListener) -> JoinHandle<()> {
    // With port 0 the kernel chose, and whoever started us wants to know.
    if let Ok(address) = listener.local_addr() {
        report(format_args!("listening on {address}"));
    }
    let server = server.clone();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    prepare(&stream);
                    server.take(stream, Peer::Tcp(peer)).await;
                }
                // Out of descriptors, or the peer is gone already: others may fare better.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    })
}

/// Best effort: without these a connection is merely slower, or stays longer after its peer vanished.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS);
}

/// Serves the unix socket at `path` for ever.
///
/// A socket file that nobody serves any more is replaced.
///
/// # Errors
/// The path cannot be bound, or another process serves it.
pub async fn run_unix(server: Arc<Server>, path: &Path) -> anyhow::Result<()> {
    let listener = bind_unix(path).with_context(|| format!("listen on {}", path.display()))?;
    report(format_args!("listening on {}", path.display()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without credentials: nobody's user id, which opens no door.
                let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
                server.take(stream, Peer::Unix(uid)).await;
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bind = || {
        // No thread of ours creates files meanwhile: the listeners start before the first request.
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        listener
    };
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match StdUnixStream::connect(path) {
                // Any other file refuses connections too.
                Err(refused)
                    if refused.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) =>
                {
                    std::fs::remove_file(path)?;
                    bind()
                }
                Ok(_) | Err(_) => Err(error),
            }
        }
        done => done,
    }
}
