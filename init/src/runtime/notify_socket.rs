//! What services say of themselves (`sd_notify(3)`): one socket for each service that says something.
//!
//! A socket of its own tells who speaks even when the speaker has ended already, as `systemd-notify` has.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use gokrazy_sys::passing::{self, Sender};
use nix::sys::socket::{setsockopt, sockopt};

use super::publish;
use super::short_path::fits;
use crate::supervise::notify::{self, Notice};

/// The socket of one service.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    address: OsString,
}

impl NotifySocket {
    /// Opens the socket at `path`, for `owner` alone to write to.
    ///
    /// A path that is too long for an address gives way to an abstract one (`unix(7)`), at which everybody may speak:
    /// who is heard is judged by the sender all the same.
    ///
    /// # Errors
    /// The errno of making it.
    pub fn open(path: &Path, owner: u32) -> io::Result<Self> {
        let (socket, address) = if fits(path) {
            (file(path, owner)?, path.as_os_str().to_owned())
        } else {
            abstract_one(path)?
        };
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            address,
        })
    }

    /// What services find in `NOTIFY_SOCKET`.
    pub fn address(&self) -> &OsStr {
        &self.address
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

fn file(path: &Path, owner: u32) -> io::Result<UnixDatagram> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Some(folder) = path.parent() {
        publish::folder(folder, 0o755)?;
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    // Fails where init is not root, and then the owner is init's own user.
    let _ = chown(path, Some(owner), Some(owner));
    Ok(socket)
}

/// Named after the folder, which no two inits share, and the service.
fn abstract_one(path: &Path) -> io::Result<(UnixDatagram, OsString)> {
    let folder = fs::metadata(path.parent().unwrap_or(path))?;
    let service = path.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("gokrazy-{:x}-{:x}-{service}", folder.dev(), folder.ino());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    Ok((socket, format!("@{name}").into()))
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
