//! States and records as text for people or JSON for scripts; the JSON is described in `docs/man/init.8.md`.

use std::time::Duration;

use gokrazy_core::log_record::Record;
use gokrazy_core::service_status::{Change, ServiceStatus};
use serde_json::{Value, json};

use crate::runtime::clock;

/// Shows all services.
pub fn all(statuses: &[ServiceStatus], as_json: bool) {
    if as_json {
        println!("{}", Value::from_iter(statuses.iter().map(value)));
        return;
    }
    let width = statuses
        .iter()
        .map(|status| status.name.len())
        .max()
        .unwrap_or(0);
    for status in statuses {
        println!("{:width$}  {}", status.name, line(status));
    }
}

/// Shows one service.
pub fn one(status: &ServiceStatus, as_json: bool) {
    if as_json {
        println!("{}", value(status));
        return;
    }
    println!("{}  {}", status.name, line(status));
    println!(
        "  runs      {}",
        status.diverted.as_ref().unwrap_or(&status.command)
    );
    if let Some(uid) = status.uid {
        println!("  user      {uid}");
    }
    if let Some(missing) = &status.unfenced {
        println!("  without   {missing}");
    }
    for change in &status.history {
        println!(
            "  {:>9} ago  {}: {}",
            ago(change.at_ms),
            change.state,
            change.why
        );
    }
}

/// Shows that a request was met.
pub fn done(what: &str) {
    println!("{}", json!({ "result": "done", "name": what }));
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
