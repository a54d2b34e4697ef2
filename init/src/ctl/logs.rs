//! A service's log, kept and coming.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use gokrazy_core::log_record::Record;
use gokrazy_core::paths;

use super::presence::{Presence, Seen};
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
        Err(error) => Err(CtlError::Other(format!(
            "read {}: {error}",
            folder.display()
        ))),
        Ok(Seen::Lost(error)) => Err(error),
        Ok(Seen::Here | Seen::Ended) => Ok(()),
    }
}

/// Returns how the one whose log it is was seen last.
fn show_all(run_dir: &Path, folder: &Path, wanted: &Wanted) -> io::Result<Seen> {
    let mut out = BufWriter::new(io::stdout().lock());
    let all = Reader::at(folder.to_owned(), Kept::All, Place::START).to_here();
    let mut reader = match wanted.lines {
        Some(count) => all.back(count),
        None => all,
    };
    print_on(&mut reader, &mut out, wanted.json)?;
    if !wanted.follow {
        return Ok(Seen::Here);
    }
    let mut reader = reader.onward();
    let mut init = Presence::of(run_dir);
    loop {
        let seen = init.look(PERIOD);
        // Also of one that has ended: that is after logd has, so all is there.
        print_on(&mut reader, &mut out, wanted.json)?;
        if !matches!(seen, Seen::Here) {
            return Ok(seen);
        }
    }
}

/// Prints every record that is there and has not been read.
fn print_on(reader: &mut Reader, out: &mut impl Write, json: bool) -> io::Result<()> {
    match fs::read_dir(reader.folder()) {
        // Nothing has been printed yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => drop(other?),
    }
    let mut done = Ok(());
    let mut give = |line: &[u8]| {
        if done.is_ok() {
            done = put(out, line, json);
        }
    };
    while reader.read(|line, _| give(line)) {}
    done?;
    out.flush()
}

fn put(out: &mut impl Write, line: &[u8], json: bool) -> io::Result<()> {
    match Record::parse(line).filter(|_| json) {
        Some(record) => writeln!(out, "{}", show::record(&record)),
        None => out.write_all(line).and_then(|()| out.write_all(b"\n")),
    }
}
