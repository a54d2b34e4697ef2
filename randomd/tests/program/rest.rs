//! The daemon between two saves: how long it sleeps, and how often it wakes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::room::{PROGRAM, Room, Running, until};

/// Saves to watch: that as many draw nearly the same jitter does not happen.
const SAVES: usize = 12;

#[test]
fn each_interval_has_one_save_and_a_length_of_its_own() {
    let room = Room::new("jitter");
    let log = room.0.join("trace");
    let mut command = Command::new("strace");
    // With -D the child that is started becomes the program itself.
    command.args(["-D", "-e", "trace=ppoll,renameat,unlinkat", "-o"]);
    command.arg(&log).arg(PROGRAM);
    command.args(room.arguments(&["--interval=100ms"]));
    let child = Running::start(&mut command);
    let mut calls = String::new();
    until("saves", || {
        calls = fs::read_to_string(&log).unwrap_or_default();
        calls.matches("renameat(").count() > SAVES
    });
    assert!(child.end_by("TERM").status.success());
    let names = calls.lines().map(|line| line.split('(').next().unwrap());
    let waits = names.filter(|name| *name == "ppoll").count();
    let saves = calls.matches("renameat(").count();
    assert!(
        saves == waits || saves == waits + 1,
        "a save at the start and after each wait: {calls}"
    );
    // The old seed stays until the new one takes its place: a cut between would leave none.
    assert!(!calls.contains("\"seed.credit\", 0)"), "{calls}");
    let lengths: Vec<Duration> = calls.lines().filter_map(length).collect();
    let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
    assert!(*most <= Duration::from_micros(112_500), "{lengths:?}");
    let spread = most.saturating_sub(*least);
    assert!(spread > Duration::from_millis(1), "{lengths:?}");
}

/// How long a wait was to take, as strace shows it: `{tv_sec=0, tv_nsec=97656250}`.
fn length(call: &str) -> Option<Duration> {
    let after = |name: &str| {
        let (_, number) = call.split_once(name)?;
        let end = number.find(|c: char| !c.is_ascii_digit())?;
        number[..end].parse::<u64>().ok()
    };
    Some(Duration::from_secs(after("tv_sec=")?) + Duration::from_nanos(after("tv_nsec=")?))
}
