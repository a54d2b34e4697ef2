//! What happens if init has a bug that panics: it becomes a fresh init, and starts the services anew.
//!
//! The release profile aborts on a panic, and the death of PID 1 would be the kernel's.
//! So the hook, which runs before the abort, replaces the program by itself: the process keeps its number, whatever
//! lived is killed, and supervision begins from nothing but the table.
//! A program that panics again and again ends instead, and on a device the kernel boots anew.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use gokrazy_core::paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, execve};

/// The variable that counts panics since the boot.
pub(super) const COUNT: &str = "GOKRAZY_INIT_PANICS";

/// So many panics are survived.
const MOST: u32 = 5;

/// How often this init has panicked before.
pub fn count() -> u32 {
    let count = std::env::var(COUNT).ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Sees to it that a panic makes a fresh init of this process; and if one has, kills what the former left behind.
pub fn survive() {
    if count() > 0 {
        kill_what_is_left();
    }
    let standard = std::panic::take_hook();
    let us = std::process::id();
    std::panic::set_hook(Box::new(move |info| {
        standard(info);
        let panics = count().saturating_add(1);
        // A child that has not become its program yet just ends: there is one init.
        if panics <= MOST && std::process::id() == us {
            become_fresh(panics);
        }
    }));
}

/// Comes back only if the program cannot be run.
fn become_fresh(panics: u32) {
    let text = |word: &OsStr| CString::new(word.as_bytes()).ok();
    let arguments: Vec<CString> = std::env::args_os().filter_map(|word| text(&word)).collect();
    let mut environment: Vec<CString> = std::env::vars_os()
        .filter(|(key, _)| key != COUNT)
        .filter_map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            CString::new(key.into_vec()).ok()
        })
        .collect();
    environment.extend(CString::new(format!("{COUNT}={panics}")));
    if let Some(program) = text(OsStr::new(paths::PROC_SELF_EXE)) {
        let _ = execve(&program, &arguments, &environment);
    }
}

/// As PID 1, everything else; otherwise the children.
fn kill_what_is_left() {
    if std::process::id() == 1 {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        return;
    }
    let us = std::process::id().to_string();
    let children = Path::new(paths::PROC)
        .join(&us)
        .join("task")
        .join(&us)
        .join("children");
    let list = std::fs::read_to_string(children).unwrap_or_default();
    for child in list.split_whitespace().filter_map(|word| word.parse().ok()) {
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    }
}
