//! Many at once, a kernel that makes no processes, a clock that jumps: what init does then.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, read the clock and wait for their children"
)]

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Init, Setup, sh};

#[test]
fn a_fork_that_fails_is_tried_again() {
    let services: String = (0..4)
        .map(|n| {
            sh(
                &format!("s{n}"),
                "exec sleep 1000",
                "restart-delay = '20ms'",
            )
        })
        .collect();
    // The tracer is a child of its own, so that init is the namespace's first process. The first clone is logd's.
    let tracer =
        "strace -D -qq -o /dev/null -e trace=clone3 -e inject=clone3:error=EAGAIN:when=2..9";
    let before: Vec<&str> = tracer.split(' ').collect();
    let setup = Setup {
        before: &before,
        ..Setup::default()
    };
    let init = Init::start_with("eagain", &services, &setup);
    let failures = (0..4).map(|n| {
        let status = init.until_state(&format!("s{n}"), "running");
        status["restarts"].as_u64().unwrap()
    });
    assert_eq!(failures.sum::<u64>(), 8, "{}", init.console());
    let why = "fork: Resource temporarily unavailable";
    assert!(init.console().contains(why), "{}", init.console());
}

/// Makes the wall clock jump by thirty years at each look.
const JUMPS: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    static int looks;
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && looks++ % 2)
        now->tv_sec += 30L * 365 * 24 * 60 * 60;
    return result;
}
";

/// The machine's own clock is left alone: init is shown another one.
#[test]
fn no_delay_changes_when_the_wall_clock_jumps() {
    let place = std::env::temp_dir().join(format!("in-jumps-shim-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    let (source, shim) = (place.join("jumps.c"), place.join("jumps.so"));
    common::write(&source, JUMPS);
    // Whoever links Rust programs has it.
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status();
    assert!(built.unwrap().success());
    let preload = format!("LD_PRELOAD={}", shim.display());
    let setup = Setup {
        before: &["env", &preload],
        ..Setup::default()
    };
    let services = sh(
        "a",
        "exit 1",
        "restart-delay = '300ms'\nrestart-delay-max = '300ms'",
    ) + &sh(
        "patient",
        "exec sleep 1000",
        "notify = true\nstart-timeout = '1h'",
    );
    let began = Instant::now();
    let init = Init::start_with("jumps", &services, &setup);
    let mut starts = Vec::new();
    init.until("six restarts", || {
        let status = init.status("a");
        starts.push(status["started_at_ms"].as_i64().unwrap_or_default());
        (status["restarts"].as_u64() >= Some(6)).then_some(())
    });
    assert!(began.elapsed() >= Duration::from_millis(6 * 300));
    let years = |ms: i64| ms / (365 * 24 * 60 * 60 * 1000);
    starts.retain(|moment| *moment != 0);
    let (first, last) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    assert!(
        years(last - first) >= 29,
        "the clock did not jump: {starts:?}"
    );
    let patient = init.status("patient");
    assert_eq!(
        (&patient["state"], &patient["restarts"]),
        (&"starting".into(), &0.into())
    );
    fs::remove_dir_all(&place).unwrap();
}

#[test]
fn a_hundred_crash_loops_leave_pid_1_small_and_the_others_alone() {
    let delays = "restart-delay = '20ms'\nrestart-delay-max = '500ms'";
    let crashing: String = (0..100)
        .map(|n| sh(&format!("c{n}"), "exit 1", delays))
        .collect();
    let init = Init::start(
        "crowd",
        &(sh("alive", "echo here; exec sleep 1000", "") + &crashing),
    );
    let alive = init.until_state("alive", "running")["pid"].clone();
    let all_loop = || {
        let all: serde_json::Value =
            serde_json::from_str(&init.ctl_ok(&["status", "--json"])).unwrap();
        let looping = all.as_array().unwrap().iter();
        looping.filter(|one| one["state"] == "crash-loop").count()
    };
    let restarts = || init.status("c99")["restarts"].as_u64().unwrap();
    // Between two tries; a few may be trying at the moment.
    init.until("crash loops", || (all_loop() >= 80).then_some(()));
    let (before, files) = (memory(init.pid()), descriptors(init.pid()));
    let enough = restarts() + 6;
    init.until("more of them", || (restarts() >= enough).then_some(()));
    let after = memory(init.pid());
    assert!(after < 32 * 1024, "PID 1 has {after} KiB");
    assert!(after <= before + 4096, "{before} KiB grew to {after} KiB");
    assert!(descriptors(init.pid()) <= files + 20);
    assert_eq!(init.status("alive")["pid"], alive);
    init.ctl_ok(&["restart", "alive"]);
    init.ctl_ok(&["stop", "alive"]);
}

/// Resident memory of a process, in KiB.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap()
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
