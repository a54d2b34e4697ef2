//! Writes that are on the disk when they return.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Largest page of any kernel: only whole pages of the cache are given up.
const PAGE: u64 = 64 * 1024;

/// Writes `bytes` at `offset`, and reads them back from the disk: a worn-out card takes every write and keeps none,
/// and whoever goes by such a write starts the machine anew for ever.
///
/// # Errors
/// The errno of writing, syncing or reading; that the disk did not keep the write.
pub(super) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)?;
    file.sync_all()?;
    let start = offset - offset % PAGE;
    let end = offset
        .saturating_add(bytes.len() as u64)
        .next_multiple_of(PAGE);
    let signed = |number: u64| i64::try_from(number).map_err(io::Error::other);
    // A file system that keeps its pages answers from memory, as if this were not asked.
    let _ = posix_fadvise(
        file,
        signed(start)?,
        signed(end - start)?,
        PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    );
    let mut kept = vec![0; bytes.len()];
    file.read_exact_at(&mut kept, offset)?;
    if kept == bytes {
        Ok(())
    } else {
        Err(io::Error::other(
            "the disk took the write and did not keep it",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_well_and_what_is_refused_is_told() {
        let path =
            std::env::temp_dir().join(format!("gokrazy-init-lasting-{}", std::process::id()));
        File::create_new(&path).unwrap().set_len(3 * PAGE).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        write(&file, b"word", PAGE - 2).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[65_534..65_539], *b"word\0");
        let file = File::open(&path).unwrap();
        assert!(write(&file, b"word", 0).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
