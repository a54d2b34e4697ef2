//! A service's log, kept and coming.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use gokrazy_core::log_record::Record;
use gokrazy_core::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{CtlError, client, show};
use crate::logd::reader::{Place, Reader, Wanted as Kept};

/// How often a followed log is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// Only the last so many records.
    pub lines: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
    /// JSON instead of the lines as they are kept.
    pub json: bool,
}

/// Shows the log of `name`.
///
/// # Errors
/// Why it cannot be read; that there is none if the service exists is no error.
pub fn run(run_dir: &Path, name: &str, wanted: &Wanted) -> Result<(), CtlError> {
    let folder = run_dir.join(paths::LOG_DIR).join(name);
    if !folder.exists() && !run_dir.join(paths::SERVICE_DIR).join(name).exists() {
        client::connect(run_dir)?;
        return Err(CtlError::Refused(
            name.to_owned(),
            gokrazy_core::control::Refusal::NoSuchService,
        ));
    }
    let shown = show_all(run_dir, &folder, wanted);
    match shown {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => {
            other.map_err(|error| CtlError::Other(format!("read {}: {error}", folder.display())))
        }
    }
}

fn show_all(run_dir: &Path, folder: &Path, wanted: &Wanted) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut reader = Reader::at(folder.to_owned(), Kept::All, Place::START).to_here();
    let mut last = VecDeque::new();
    read_on(&mut reader, &mut |line| {
        match wanted.lines {
            None => put(&mut out, line, wanted.json)?,
            Some(count) => {
                last.push_back(line.to_vec());
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
        Ok(())
    })?;
    for line in last {
        put(&mut out, &line, wanted.json)?;
    }
    out.flush()?;
    if !wanted.follow {
        return Ok(());
    }
    let mut reader = reader.onward();
    let mut init = client::connect(run_dir).ok();
    loop {
        let is_there = is_there_after_a_while(run_dir, &mut init);
        read_on(&mut reader, &mut |line| put(&mut out, line, wanted.json))?;
        out.flush()?;
        if !is_there {
            // It ends after logd, so nothing more will be written.
            return Ok(());
        }
    }
}

/// Waits until it is time to look again, or until init closes our connection; says whether it is there then.
fn is_there_after_a_while(run_dir: &Path, init: &mut Option<OwnedFd>) -> bool {
    let Some(connection) = init.as_ref() else {
        return false;
    };
    let mut end = [PollFd::new(connection.as_fd(), PollFlags::empty())];
    let limit = PollTimeout::try_from(PERIOD).unwrap_or(PollTimeout::ZERO);
    if poll(&mut end, limit).is_ok_and(|ended| ended > 0) {
        // One who floods init with connections may have cost us ours.
        thread::sleep(PERIOD);
        *init = client::connect(run_dir).ok();
    }
    init.is_some()
}

fn put(out: &mut impl Write, line: &[u8], json: bool) -> io::Result<()> {
    match Record::parse(line).filter(|_| json) {
        Some(record) => writeln!(out, "{}", show::record(&record)),
        None => out.write_all(line).and_then(|()| out.write_all(b"\n")),
    }
}

/// Gives every record that is there and has not been read to `each`.
fn read_on(reader: &mut Reader, each: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    match fs::read_dir(reader.folder()) {
        // Nothing has been printed yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => drop(other?),
    }
    let mut done = Ok(());
    let mut give = |line: &[u8]| {
        if done.is_ok() {
            done = each(line);
        }
    };
    while reader.read(|line, _| give(line)) {}
    done
}
