//! What services say of themselves (`sd_notify(3)`): one socket for each service that says something.
//!
//! A socket of its own tells who speaks even when the speaker has ended already, as `systemd-notify` has.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use gokrazy_sys::passing::{self, Sender};
use nix::sys::socket::{setsockopt, sockopt};

use crate::supervise::notify::{self, Notice};

/// The socket of one service.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Opens the socket at `path`, for `owner` alone to write to.
    ///
    /// # Errors
    /// The errno of making it.
    pub fn open(path: &Path, owner: u32) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        // Fails where init is not root, and then the owner is init's own user.
        let _ = chown(path, Some(owner), Some(owner));
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next datagram and its sender; `None` if there is none, an empty list for what is not understood.
    pub fn next(&self) -> Option<(Option<Sender>, Vec<Notice>)> {
        let mut buffer = [0; notify::MAX_DATAGRAM];
        let datagram = passing::receive(self.socket.as_fd(), &mut buffer).ok()?;
        let bytes = buffer.get(..datagram.length).unwrap_or_default();
        let notices = if datagram.truncated {
            Vec::new()
        } else {
            notify::parse(bytes)
        };
        Some((datagram.sender, notices))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
