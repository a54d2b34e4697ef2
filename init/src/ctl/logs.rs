//! A service's log, kept and coming.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gokrazy_core::log_record::Record;
use gokrazy_core::paths;

use super::{CtlError, show};

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

/// Where reading has got to.
#[derive(Debug, Default)]
struct Place {
    segment: Option<PathBuf>,
    offset: u64,
}

/// Shows the log of `name`.
///
/// # Errors
/// Why it cannot be read; that there is none if the service exists is no error.
pub fn run(run_dir: &Path, name: &str, wanted: &Wanted) -> Result<(), CtlError> {
    let folder = run_dir.join(paths::LOG_DIR).join(name);
    if !folder.exists() && !run_dir.join(paths::SERVICE_DIR).join(name).exists() {
        super::client::connect(run_dir)?;
        return Err(CtlError::Refused(
            name.to_owned(),
            gokrazy_core::control::Refusal::NoSuchService,
        ));
    }
    let shown = show_all(&folder, wanted);
    match shown {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => {
            other.map_err(|error| CtlError::Other(format!("read {}: {error}", folder.display())))
        }
    }
}

fn show_all(folder: &Path, wanted: &Wanted) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut place = Place::default();
    let mut last = VecDeque::new();
    read_on(folder, &mut place, &mut |line| {
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
    loop {
        thread::sleep(PERIOD);
        read_on(folder, &mut place, &mut |line| {
            put(&mut out, line, wanted.json)
        })?;
        out.flush()?;
    }
}

fn put(out: &mut impl Write, line: &[u8], json: bool) -> io::Result<()> {
    match Record::parse(line).filter(|_| json) {
        Some(record) => writeln!(out, "{}", show::record(&record)),
        None => out.write_all(line).and_then(|()| out.write_all(b"\n")),
    }
}

/// Gives every whole line behind `place` to `each`, and moves `place` behind them.
fn read_on(
    folder: &Path,
    place: &mut Place,
    each: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    for segment in segments(folder)? {
        if place
            .segment
            .as_ref()
            .is_some_and(|current| segment < *current)
        {
            continue;
        }
        if place.segment.as_ref() != Some(&segment) {
            *place = Place {
                segment: Some(segment.clone()),
                offset: 0,
            };
        }
        // Logd may have removed it since it was listed: what was in it was too old to keep.
        let Ok(mut file) = File::open(&segment) else {
            continue;
        };
        file.seek(SeekFrom::Start(place.offset))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
            place.offset = place
                .offset
                .saturating_add(u64::try_from(line.len()).unwrap_or(0));
            line.pop();
            each(&line)?;
            line.clear();
        }
    }
    Ok(())
}

fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        // Nothing has been printed yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "log"));
    paths.sort();
    Ok(paths)
}
