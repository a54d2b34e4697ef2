//! Requests of clients: a listening SEQPACKET socket, one datagram for a request, one for its reply.
//!
//! A client that is malformed, slow or greedy costs itself: replies are never waited for, and there are never more
//! than [`MAX_CLIENTS`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gokrazy_core::control::{MAX_DATAGRAM, Refusal, Reply, Request};
use gokrazy_core::users;
use gokrazy_sys::passing;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen,
    socket, sockopt,
};

use super::options::Mode;
use super::short_path::ShortPath;

/// Most clients at a time; one more costs one of them its connection: a stranger before others, then one of the user
/// that has most.
pub const MAX_CLIENTS: usize = 32;

/// The listening socket and its clients.
#[derive(Debug)]
pub struct ControlSocket {
    listener: OwnedFd,
    path: PathBuf,
    /// What init is to the machine.
    mode: Mode,
    clients: VecDeque<Client>,
    next_id: u32,
    /// Given up for a moment when no descriptor is left, so that a client can be turned away instead of waking us
    /// for ever.
    reserve: Option<OwnedFd>,
}

/// A client, and as whom the kernel knows it.
#[derive(Debug)]
pub struct Client {
    /// Number of the connection.
    pub id: u32,
    socket: OwnedFd,
    uid: u32,
}

/// What came from a client.
#[derive(Debug)]
pub enum Received {
    /// A request of a user that may make some.
    Request {
        /// What it asks.
        request: Request,
        /// Who asks.
        uid: u32,
    },
    /// Something to be refused.
    Refused(Refusal),
    /// Nothing yet: the socket has no more to read.
    Nothing,
    /// The client is gone.
    Gone,
}

impl ControlSocket {
    /// Listens at `path`, where anybody may connect; who may ask what is judged by the peer's user.
    ///
    /// # Errors
    /// The errno of making the socket.
    pub fn open(path: &Path, mode: Mode) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let short = ShortPath::of(path)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(short.path())?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        listen(&listener, Backlog::new(64)?)?;
        let reserve = listener.try_clone().ok();
        Ok(Self {
            listener,
            path: path.to_owned(),
            mode,
            clients: VecDeque::new(),
            next_id: 0,
            reserve,
        })
    }

    /// The listening descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Whether clients find it still: somebody may have cleared the folder.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// The client that has to go where there are too many: the oldest of those who may ask nothing, or of the user that
    /// has most connections. So whoever floods us costs others none.
    pub fn one_too_many(&self) -> Option<u32> {
        let of_user = |uid| self.clients.iter().filter(|other| other.uid == uid).count();
        let weight = |client: &&Client| (!may_ask(client.uid, self.mode), of_user(client.uid));
        // Of equals the last one counts, which is the oldest here.
        let heaviest = self.clients.iter().rev().max_by_key(weight);
        let heaviest = heaviest.filter(|_| self.clients.len() > MAX_CLIENTS);
        heaviest.map(|client| client.id)
    }

    /// Takes in one client that waits at the door.
    pub fn accept(&mut self) -> Option<&Client> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(socket) = accept4(&self.listener, flags) else {
            self.turn_away();
            return None;
        };
        let uid = getsockopt(&socket, sockopt::PeerCredentials).ok()?.uid();
        self.next_id = self.next_id.wrapping_add(1);
        self.clients.push_back(Client {
            id: self.next_id,
            socket,
            uid,
        });
        self.clients.back()
    }

    fn turn_away(&mut self) {
        if self.reserve.take().is_some() {
            // Accepted into the freed place and closed at once.
            let _ = accept4(&self.listener, SockFlag::SOCK_CLOEXEC);
        }
        self.reserve = self.listener.try_clone().ok();
    }

    /// Receives what a client sent.
    pub fn receive(&self, id: u32) -> Received {
        match self.clients.iter().find(|client| client.id == id) {
            Some(client) => client.receive(self.mode),
            None => Received::Gone,
        }
    }

    /// Replies to a client; says whether it had room for the reply.
    pub fn reply(&self, id: u32, reply: &Reply) -> bool {
        let sent = self
            .clients
            .iter()
            .find(|client| client.id == id)
            .map(|client| passing::send(client.socket.as_fd(), reply.render().as_bytes(), &[]));
        matches!(sent, Some(Ok(())))
    }

    /// Takes away the connection of whichever client is left, to be closed.
    pub fn take_any_client(&mut self) -> Option<Client> {
        self.clients.pop_front()
    }

    /// Takes a client's connection away, to be closed.
    pub fn take_client(&mut self, id: u32) -> Option<Client> {
        let index = self.clients.iter().position(|client| client.id == id)?;
        self.clients.remove(index)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&self, mode: Mode) -> Received {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let datagram = match passing::receive(self.socket.as_fd(), &mut buffer) {
            Ok(datagram) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(_) => return Received::Gone,
        };
        if datagram.length == 0 {
            // The end of the connection and an empty datagram look the same.
            return Received::Gone;
        }
        if datagram.truncated {
            let why = format!("longer than {MAX_DATAGRAM} bytes");
            return Received::Refused(Refusal::Malformed(why));
        }
        // Before anything is read of it: what others send costs us no more than the receiving.
        if !may_ask(self.uid, mode) {
            return Received::Refused(Refusal::NotPermitted);
        }
        let bytes = buffer.get(..datagram.length).unwrap_or_default();
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => Request::parse(text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Err(why) => Received::Refused(Refusal::Malformed(why)),
            Ok(request) => Received::Request {
                request,
                uid: self.uid,
            },
        }
    }
}

/// Root, whoever runs init, and on a device our web page; others read the state files.
///
/// In a container or on a host, the number of our web page may be anybody's.
fn may_ask(uid: u32, mode: Mode) -> bool {
    let is_web = mode == Mode::Machine && uid == users::WEB.id;
    uid == 0 || uid == nix::unistd::geteuid().as_raw() || is_web
}
