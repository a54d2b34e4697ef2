//! A request over the control socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use gokrazy_core::control::{MAX_DATAGRAM, Reply, Request};
use gokrazy_core::paths;
use gokrazy_sys::passing;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket,
};

use super::CtlError;
use crate::runtime::short_path::ShortPath;

/// How long init may take to answer, in milliseconds: it never waits for anything, so this is long.
const PATIENCE_MS: u16 = 10_000;

/// Connects to init.
///
/// # Errors
/// [`CtlError::NoInit`] if nobody listens.
pub fn connect(run_dir: &Path) -> Result<OwnedFd, CtlError> {
    let path = run_dir.join(paths::CONTROL_SOCKET);
    let connected = || -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let short = ShortPath::of(&path)?;
        let address = UnixAddr::new(short.path())?;
        uninterrupted(|| connect_to(fd.as_raw_fd(), &address))?;
        Ok(fd)
    };
    connected().map_err(|error| CtlError::NoInit(path.clone(), error))
}

/// Asks init for something that `what` names in messages.
///
/// # Errors
/// [`CtlError::NoInit`] if it does not answer, [`CtlError::Refused`] if it does not do it.
pub fn ask(run_dir: &Path, what: &str, request: &Request) -> Result<(), CtlError> {
    let socket = connect(run_dir)?;
    let lost = |error| CtlError::NoInit(run_dir.join(paths::CONTROL_SOCKET), error);
    let text = request.render();
    if text.len() > MAX_DATAGRAM {
        return Err(CtlError::Other(format!(
            "{what}: the request is longer than {MAX_DATAGRAM} bytes"
        )));
    }
    passing::send(socket.as_fd(), text.as_bytes(), &[]).map_err(lost)?;
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::from(PATIENCE_MS);
    match uninterrupted(|| poll(&mut waiting, limit)) {
        Ok(0) => return Err(lost(io::ErrorKind::TimedOut.into())),
        Ok(_) => {}
        Err(errno) => return Err(lost(errno.into())),
    }
    let mut buffer = vec![0; MAX_DATAGRAM];
    let answer = passing::receive(socket.as_fd(), &mut buffer).map_err(lost)?;
    if answer.length == 0 {
        return Err(lost(io::ErrorKind::ConnectionReset.into()));
    }
    let text =
        String::from_utf8_lossy(buffer.get(..answer.length).unwrap_or_default()).into_owned();
    match Reply::parse(&text) {
        Ok(Reply::Done) => Ok(()),
        Ok(Reply::Refused(refusal)) => Err(CtlError::Refused(what.to_owned(), refusal)),
        Err(error) => Err(CtlError::Other(format!(
            "{what}: read init's answer: {error}"
        ))),
    }
}

/// Does it anew when a signal came meanwhile: a window that changes its size, or the end of a pause, ends no request.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
