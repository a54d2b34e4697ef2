//! What `init ctl logs` shows, and for how long.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::process::Command;

use common::{Follower, Init, Setup, sh};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whoever follows a log sees its last line, and then the end.
#[test]
fn who_follows_a_log_does_not_outlive_its_init() {
    let script = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    let mut init = Init::start("follow", &sh("a", script, ""));
    init.until_logged("a", "hello");
    let mut follower = Follower::start(&init, "a", 0);
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
    assert_eq!(follower.wait(&init), Some(0));
    let text = follower.text();
    assert!(text.contains("hello") && text.contains("bye"), "{text}");
}

/// As after a panic, or where somebody starts a killed init anew: no line is missing, and none comes twice.
#[test]
fn who_follows_a_log_goes_on_with_the_next_init() {
    let mut init = Init::start_with(
        "follow-next",
        &sh("a", "echo run $$; exec sleep 1000", "restart = 'never'"),
        &Setup {
            before: &["sh", "-c", "\"$@\"; sleep 1; \"$@\"", "sh"],
            ..Setup::default()
        },
    );
    init.until_state("a", "running");
    let mut follower = Follower::start(&init, "a", 0);
    follower.until(&init, "run");
    let shell = init.pid();
    let children = format!("/proc/{shell}/task/{shell}/children");
    let first = fs::read_to_string(children).unwrap();
    kill(
        Pid::from_raw(first.trim().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    init.until("the second run", || {
        (follower.text().matches("run").count() == 2).then_some(())
    });
    init.ctl_ok(&["poweroff"]);
    assert_eq!(init.wait(), Some(0));
    assert_eq!(follower.wait(&init), Some(0));
    let lines: Vec<String> = follower.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
}

/// A connection for each of them would leave none to others: init holds 32.
#[test]
fn followers_cost_init_no_connection() {
    const MANY: usize = 40;
    let script = "trap 'echo more' USR1; trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    let mut init = Init::start("follow-many", &sh("a", script, ""));
    init.until_logged("a", "hello");
    let before = descriptors(&init);
    let mut followers: Vec<Follower> = (0..MANY)
        .map(|number| Follower::start(&init, "a", number))
        .collect();
    for follower in &followers {
        follower.until(&init, "hello");
    }
    init.ctl_ok(&["signal", "a", "USR1"]);
    // They look whether init is there before they show what is new.
    for follower in &followers {
        follower.until(&init, "more");
    }
    init.until("their connections to be closed", || {
        (descriptors(&init) <= before).then_some(())
    });
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
    for follower in &mut followers {
        assert_eq!(follower.wait(&init), Some(0));
        assert!(follower.text().contains("bye"));
    }
}

fn descriptors(init: &Init) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", init.pid()));
    open.unwrap().count()
}

#[test]
fn the_last_lines_are_shown_over_the_borders_of_segments() {
    let script = "n=0; while [ $n -lt 2000 ]; do echo line $n; n=$((n+1)); done; echo done";
    let more = "log-max = '32K'\nrestart = 'never'";
    let init = Init::start("last-lines", &sh("a", script, more));
    init.until_logged("a", "done");
    let all = init.ctl_ok(&["logs", "a"]);
    let all: Vec<&str> = all.lines().collect();
    let segments = fs::read_dir(init.run_dir().join("log/a")).unwrap().count();
    assert!(segments > 2, "{segments}");
    for count in [
        0,
        1,
        100,
        101,
        all.len() - 1,
        all.len(),
        all.len() + 1,
        1_000_000,
    ] {
        let shown = init.ctl_ok(&["logs", "a", "-n", &count.to_string()]);
        let shown: Vec<&str> = shown.lines().collect();
        let want = &all[all.len().saturating_sub(count)..];
        assert!(shown == want, "{count}: {} lines", shown.len());
    }
}

/// A terminal that changes its size, or a pause that ends, interrupts calls of the kernel.
#[test]
fn a_request_outlives_interrupted_calls() {
    let init = Init::start("interrupted", &sh("a", "exec sleep 1000", ""));
    init.until_state("a", "running");
    for words in [&["restart", "a"][..], &["status", "a"], &["logs", "a"]] {
        let output = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-e", "trace=connect,poll,ppoll"])
            .args(["-e", "inject=connect,poll,ppoll:error=EINTR:when=1"])
            .args([env!("CARGO_BIN_EXE_init"), "ctl", "--run-dir"])
            .arg(init.run_dir())
            .args(words)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
    }
}
