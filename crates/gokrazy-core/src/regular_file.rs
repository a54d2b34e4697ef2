//! Reading a small file from where somebody less trusted may write: without waiting, and without an end to what it
//! may take.
//!
//! A daemon's own folder may hold a pipe in place of a file, by a bug or because somebody has taken the daemon over;
//! opening that the plain way would hold the reader up for ever, PID 1 not excepted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// Most bytes of a state file: many times what any of ours has.
pub const STATE_MAX: u64 = 64 * 1024;

/// Opens a file for reading, if it is a regular one (`open(2)` with `O_NONBLOCK`, which regular files do not heed).
///
/// # Errors
/// The errno of opening; [`io::ErrorKind::InvalidInput`] for a pipe, a device, a socket, a folder.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and the errno of reading; [`io::ErrorKind::InvalidData`] if it is longer.
pub fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        let why = format!("it has more than {limit} bytes");
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

/// The text of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`read_bytes`]; [`io::ErrorKind::InvalidData`] also if it is no UTF-8.
pub fn read(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read_bytes(path, limit)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::{Durability, replace};
    use nix::sys::stat::Mode;
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_pipe_a_folder_and_a_long_file_are_refused_at_once() {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-core-regular-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (pipe, plain) = (folder.join("pipe"), folder.join("plain"));
        // Nobody writes to it: an open that waits would wait for ever, so it is not this thread that does it.
        nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
        replace(&plain, b"a=1\n", 0o600, Durability::Volatile).unwrap();
        let kind = |path: &Path, limit| read(path, limit).map_err(|error| error.kind());
        let (tell, told) = mpsc::channel();
        let other = pipe.clone();
        std::thread::spawn(move || tell.send(read(&other, 4).map_err(|error| error.kind())));
        let of_pipe = told.recv_timeout(Duration::from_secs(30));
        assert_eq!(of_pipe, Ok(Err(io::ErrorKind::InvalidInput)));
        assert_eq!(kind(&folder, 4), Err(io::ErrorKind::InvalidInput));
        assert_eq!(
            kind(Path::new("/dev/zero"), 4),
            Err(io::ErrorKind::InvalidInput)
        );
        assert_eq!(kind(&plain, 3), Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(&plain, 4), Ok("a=1\n".to_owned()));
        assert_eq!(kind(&folder.join("none"), 4), Err(io::ErrorKind::NotFound));
        fs::remove_dir_all(folder).unwrap();
    }
}
