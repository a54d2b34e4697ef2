//! Messages on the wire: a datagram each (RFC 5426), or a stream with octet counts (RFC 6587 §3.4.1).

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::target::{Protocol, Target};

/// Most bytes of a datagram: receivers should take so many (RFC 5424 §6.1), and few networks drop it.
const DATAGRAM_MAX: usize = 2048;

/// Most bytes of a message in a stream: what collectors take unless they are told otherwise.
const STREAM_MAX: usize = 8192;

/// A collector that does not answer or take anything for so long is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// After so many datagrams comes a breath: nobody else slows them down, and a collector's buffer is small.
const BURST: u32 = 64;
const BREATH: Duration = Duration::from_millis(10);

/// A way to a collector.
#[derive(Debug)]
pub enum Transport {
    /// Datagrams, and how many there were.
    Udp(UdpSocket, u32),
    /// A stream.
    Tcp(TcpStream),
}

impl Transport {
    /// Finds the collector and opens the way; waits for some seconds at most.
    ///
    /// # Errors
    /// The name is not known, or none of its addresses can be reached.
    pub fn open(target: &Target) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        // One of each family: more would add up to more patience than a stop has.
        let addresses: Vec<SocketAddr> = (target.host.as_str(), target.port)
            .to_socket_addrs()?
            .collect();
        let of = |six| addresses.iter().find(|address| address.is_ipv6() == six);
        for address in [of(true), of(false)].into_iter().flatten() {
            let opened = match target.protocol {
                Protocol::Udp => udp(*address),
                Protocol::Tcp => tcp(*address),
            };
            match opened {
                Ok(transport) => return Ok(transport),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Most bytes of a message.
    pub fn longest(protocol: Protocol) -> usize {
        match protocol {
            Protocol::Udp => DATAGRAM_MAX,
            Protocol::Tcp => STREAM_MAX,
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The collector is away; of a stream, what it had not acknowledged by then may be lost.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket, count) => {
                *count = count.wrapping_add(1);
                if *count % BURST == 0 {
                    thread::sleep(BREATH);
                }
                socket.send(message).map(drop)
            }
            Self::Tcp(stream) => {
                let mut frame = format!("{} ", message.len()).into_bytes();
                frame.extend_from_slice(message);
                stream.write_all(&frame)
            }
        }
    }

    /// Takes in whatever came and finds out whether the collector is still there; nothing that it says matters.
    ///
    /// # Errors
    /// It has closed the stream, or a datagram was refused.
    pub fn check(&self) -> io::Result<()> {
        let mut nothing = [0; 512];
        loop {
            match recv(self.fd().as_raw_fd(), &mut nothing, MsgFlags::MSG_DONTWAIT) {
                Ok(0) if matches!(self, Self::Tcp(_)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "it has closed the connection",
                    ));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The socket, readable when [`Self::check`] has something to find.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket, _) => socket.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

fn udp(address: SocketAddr) -> io::Result<Transport> {
    let any: SocketAddr = if address.is_ipv6() {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Transport::Udp(socket, 0))
}

fn tcp(address: SocketAddr) -> io::Result<Transport> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Transport::Tcp(stream))
}
