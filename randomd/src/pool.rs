//! The kernel's random pool as a trait, and the real one.
//!
//! What is worth credit is not decided here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gokrazy_sys::entropy;

/// What became of the credit that [`Pool::mix`] asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// It was given, or none was asked for.
    Settled,
    /// The bytes were mixed, and the credit was refused.
    Refused(io::ErrorKind),
}

/// What [`Pool::draw`] drew from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// An initialised pool.
    Ready,
    /// A pool that is not initialised: the bytes are no secret.
    Unready,
}

/// What the carrier needs of the pool.
pub trait Pool {
    /// Whether the pool is initialised, so that `getrandom(2)` does not block.
    fn is_ready(&self) -> bool;

    /// Mixes `bytes` in and credits `bits`.
    ///
    /// # Errors
    /// The errno if the bytes were not mixed at all.
    fn mix(&mut self, bytes: &[u8], bits: usize) -> io::Result<Credit>;

    /// Fills `buffer`, and never blocks.
    ///
    /// # Errors
    /// The errno if the kernel gives no bytes.
    fn draw(&mut self, buffer: &mut [u8]) -> io::Result<Drawn>;
}

/// The kernel's pool.
#[derive(Debug)]
pub struct KernelPool {
    device: PathBuf,
}

impl KernelPool {
    /// The pool behind `device`, opened with each use: `/dev` may come later than this daemon.
    pub fn new(device: &Path) -> Self {
        Self {
            device: device.to_owned(),
        }
    }
}

impl Pool for KernelPool {
    fn is_ready(&self) -> bool {
        matches!(entropy::read_nonblocking(&mut [0; 1]), Ok(1))
    }

    fn mix(&mut self, bytes: &[u8], bits: usize) -> io::Result<Credit> {
        let mut device = OpenOptions::new().write(true).open(&self.device)?;
        for chunk in bytes.chunks(entropy::ADD_MAX) {
            let credit = u32::try_from(bits.min(chunk.len().saturating_mul(8))).unwrap_or(0);
            if let Err(error) = entropy::add(device.as_fd(), chunk, credit) {
                // A plain write mixes without credit, and takes no capability.
                device.write_all(bytes)?;
                return Ok(match bits {
                    0 => Credit::Settled,
                    _ => Credit::Refused(error.kind()),
                });
            }
        }
        Ok(Credit::Settled)
    }

    #[expect(clippy::disallowed_methods, reason = "drawing seeds is the point")]
    fn draw(&mut self, buffer: &mut [u8]) -> io::Result<Drawn> {
        if self.is_ready() {
            getrandom::fill(buffer).map_err(io::Error::other)?;
            return Ok(Drawn::Ready);
        }
        if fill_insecure(buffer).is_err() {
            // Linux before 5.6.
            io::Read::read_exact(&mut File::open(&self.device)?, buffer)?;
        }
        Ok(Drawn::Unready)
    }
}

fn fill_insecure(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let written = entropy::read_insecure(buffer)?;
        buffer = buffer.get_mut(written..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_bytes_and_reports_a_device_that_is_not_there() {
        let mut pool = KernelPool::new(Path::new("/nonexistent/random"));
        let mut bytes = [0; 64];
        pool.draw(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 64]);
        let error = pool.mix(b"seed", 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
