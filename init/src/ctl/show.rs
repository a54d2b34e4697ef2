//! States and records as text for people or JSON for scripts; the JSON is described in `docs/man/init.8.md`.

use std::io::{self, Write};
use std::time::Duration;

use gokrazy_core::log_record::Record;
use gokrazy_core::mount_status::MountStatus;
use gokrazy_core::service_status::{Change, ServiceStatus};
use serde_json::{Value, json};

use crate::runtime::clock;

/// Shows all services.
///
/// # Errors
/// The errno of writing.
pub fn all(out: &mut impl Write, statuses: &[ServiceStatus], as_json: bool) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", Value::from_iter(statuses.iter().map(value)));
    }
    let width = statuses
        .iter()
        .map(|status| status.name.len())
        .max()
        .unwrap_or(0);
    for status in statuses {
        writeln!(out, "{:width$}  {}", status.name, line(status))?;
    }
    Ok(())
}

/// Shows all mounts.
///
/// # Errors
/// The errno of writing.
pub fn mounts(out: &mut impl Write, mounts: &[MountStatus], as_json: bool) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", Value::from_iter(mounts.iter().map(mount)));
    }
    for one in mounts {
        let (target, source, state) = (one.target.display(), &one.source, one.state);
        write!(out, "{target} ({source})  {state}")?;
        if let Some(device) = &one.device {
            write!(out, ", {}", device.display())?;
        }
        if let Some(why) = &one.why {
            write!(out, ": {why}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn mount(mount: &MountStatus) -> Value {
    json!({
        "target": mount.target.display().to_string(),
        "source": mount.source,
        "state": mount.state.as_str(),
        "device": mount.device.as_ref().map(|path| path.display().to_string()),
        "why": mount.why,
    })
}

/// Shows one service.
///
/// # Errors
/// The errno of writing.
pub fn one(out: &mut impl Write, status: &ServiceStatus, as_json: bool) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", value(status));
    }
    writeln!(out, "{}  {}", status.name, line(status))?;
    let command = status.diverted.as_ref().unwrap_or(&status.command);
    writeln!(out, "  runs      {command}")?;
    if let Some(uid) = status.uid {
        writeln!(out, "  user      {uid}")?;
    }
    if let Some(missing) = &status.unfenced {
        writeln!(out, "  without   {missing}")?;
    }
    for Change { at_ms, state, why } in &status.history {
        writeln!(out, "  {:>9} ago  {state}: {why}", ago(*at_ms))?;
    }
    Ok(())
}

/// Shows that a request was met.
///
/// # Errors
/// The errno of writing.
pub fn done(out: &mut impl Write, what: &str) -> io::Result<()> {
    writeln!(out, "{}", json!({ "result": "done", "name": what }))
}

fn line(status: &ServiceStatus) -> String {
    let mut line = format!("{} for {}", status.state, ago(status.since_ms));
    if let Some(pid) = status.pid {
        line += &format!(", pid {pid}");
    }
    if let Some(waiting) = &status.waiting_for {
        line += &format!(", waits for {waiting}");
    }
    if status.restarts > 0 {
        line += &format!(", {} restarts", status.restarts);
    }
    if let Some(last) = &status.last_exit {
        line += &format!(", last: {last}");
    }
    if let Some(text) = &status.status_text {
        line += &format!(", says: {text}");
    }
    if status.diverted.is_some() {
        line += ", diverted";
    }
    line
}

fn ago(at_ms: u64) -> String {
    let seconds = clock::boot()
        .saturating_sub(Duration::from_millis(at_ms))
        .as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn value(status: &ServiceStatus) -> Value {
    json!({
        "name": status.name,
        "state": status.state.as_str(),
        "command": status.command,
        "pid": status.pid,
        "uid": status.uid,
        "since_ms": status.since_ms,
        "started_at_ms": status.started_at_ms,
        "restarts": status.restarts,
        "failures": status.failures,
        "last_exit": status.last_exit,
        "status_text": status.status_text,
        "waiting_for": status.waiting_for.as_deref().map(|text| text.split(' ').collect::<Vec<_>>()),
        "diverted": status.diverted,
        "critical": status.critical,
        "unfenced": status.unfenced,
        "history": status.history.iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(change: &Change) -> Value {
    json!({ "at_ms": change.at_ms, "state": change.state.as_str(), "why": change.why })
}

/// A record of a log, as one line of JSON; bytes that are no UTF-8 are shown as U+FFFD.
pub fn record(record: &Record<'_>) -> String {
    json!({
        "boot": record.boot.parse::<f64>().ok(),
        "time": record.wall,
        "stream": record.stream.as_str(),
        "priority": record.priority,
        "continues": record.continues,
        "text": String::from_utf8_lossy(record.text),
    })
    .to_string()
}
