//! Asking init over its control socket: one request, one reply, one connection.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use gokrazy_core::control::{MAX_DATAGRAM, Reply, Request};
use gokrazy_core::keyvalue::ParseError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// init answers at once; one that is silent for so many seconds will not answer.
const TIMEOUT_SECONDS: i64 = 5;

/// Why init could not be asked.
#[derive(Debug)]
pub enum AskError {
    /// It does not listen, or does not answer.
    Socket(io::Error),
    /// It answered what is no reply.
    Reply(ParseError),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Reply(error) => write!(f, "understand the reply: {error}"),
        }
    }
}

/// Sends `request` and waits for the reply; blocks, for a few seconds at most.
///
/// # Errors
/// init does not listen at `path`, does not answer in time, or answers what is no reply.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, AskError> {
    let answer = exchange(path, request.render().as_bytes()).map_err(AskError::Socket)?;
    Reply::parse(&String::from_utf8_lossy(&answer)).map_err(AskError::Reply)
}

fn exchange(path: &Path, datagram: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let timeout = TimeVal::new(TIMEOUT_SECONDS, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
    setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    send(socket.as_raw_fd(), datagram, MsgFlags::MSG_NOSIGNAL)?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(length);
    Ok(buffer)
}
