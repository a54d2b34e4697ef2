//! Lives of services, with real processes in a PID namespace.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests measure time and fail by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Init, sh};
use nix::sys::signal::Signal;

#[test]
fn ends_are_answered_as_the_policy_says() {
    let services = [
        sh("zero", "exit 0", ""),
        sh("peace", "exit 125", ""),
        sh("fails", "exit 3", "restart-delay = '50ms'"),
        sh("never", "exit 4", "restart = 'never'"),
        sh("killed", "kill -9 $$", "restart = 'never'"),
        "[[service]]\nname = 'absent'\ncommand = ['/nonexistent']\nrestart = 'never'\n".to_owned(),
    ];
    let init = Init::start("policy", &services.concat());
    init.until_state("zero", "finished");
    init.until_state("peace", "stopped");
    let fails = init.until_state("fails", "crash-loop");
    assert_eq!(fails["last_exit"], "exit status 3");
    assert!(fails["failures"].as_u64().unwrap() >= 5, "{fails}");
    assert_eq!(
        init.until_state("never", "stopped")["last_exit"],
        "exit status 4"
    );
    assert_eq!(
        init.until_state("killed", "stopped")["last_exit"],
        "signal 9 (KILL)"
    );
    let absent = init.until_state("absent", "stopped");
    let want = "start failed: run /nonexistent: No such file or directory (os error 2)";
    assert_eq!(absent["last_exit"], want);
    assert_eq!(
        absent["history"].as_array().unwrap().last().unwrap()["why"],
        want
    );
}

#[test]
fn the_environment_is_gokrazys() {
    let script = "echo first=$GOKRAZY_FIRST_START extra=$EXTRA home=$HOME cwd=$PWD; exit 1";
    let init = Init::start(
        "env",
        &sh(
            "a",
            script,
            "restart-delay = '10ms'\nenv = { EXTRA = 'x y' }",
        ),
    );
    let home = init.folder.join("home/a");
    init.until("two runs", || (init.log("a").len() >= 2).then_some(()));
    let log = init.log("a");
    let line = |first: &str| format!("first={first} extra=x y home={0} cwd={0}", home.display());
    assert_eq!(log[..2], [line("1"), line("")]);
}

#[test]
fn a_stop_takes_the_whole_tree_with_it() {
    // A grandchild in a session of its own that ignores the signal, and a main process that ends at once.
    let script = "setsid sh -c \"trap '' TERM; echo deaf; while :; do sleep 1; done\" & echo $!; \
                  trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let init = Init::start("tree", &sh("a", script, "stop-timeout = '300ms'"));
    init.until_logged("a", "deaf");
    init.ctl_ok(&["stop", "a"]);
    assert_eq!(init.state("a"), "stopped");
    let left = descendants(init.pid());
    assert!(
        !left
            .iter()
            .any(|line| line.contains("sleep") || line.contains("trap")),
        "{left:?}"
    );
}

/// A restart follows its exit at once: the new run's control group must not go with the old one's, and must take in a
/// new process although it was killed.
#[test]
fn a_stop_after_a_restart_takes_those_along_that_hide() {
    // Neither in the session, nor a descendant, nor marked: only the group knows whose it is.
    let script = "(env -i setsid sleep 1000 &); echo up; exec sleep 1000";
    let init = Init::start("hidden", &sh("a", script, "stop-timeout = '300ms'"));
    init.until_logged("a", "up");
    for _ in 0..3 {
        init.ctl_ok(&["restart", "a"]);
    }
    if init.console().contains("no control groups") {
        return;
    }
    let hidden = || {
        let all = descendants(init.pid());
        all.iter().filter(|line| line.contains("sleep")).count()
    };
    init.until("both", || (hidden() == 2).then_some(()));
    init.ctl_ok(&["stop", "a"]);
    assert_eq!(hidden(), 0, "{:?}", descendants(init.pid()));
}

#[test]
fn a_main_process_that_ends_leaves_nothing_behind() {
    let script = "setsid sh -c 'echo behind; exec sleep 1000' & sleep 0.3; exit 0";
    let init = Init::start("behind", &sh("a", script, ""));
    init.until_state("a", "finished");
    init.until("the rest to go", || {
        (!descendants(init.pid())
            .iter()
            .any(|line| line.contains("sleep")))
        .then_some(())
    });
}

/// `--services` may be a pipe at the start; at SIGHUP nobody writes to it.
#[test]
fn a_pipe_of_tables_is_not_waited_for_anew() {
    let folder = std::env::temp_dir().join(format!("in-pipe-tables-{}", std::process::id()));
    let pipe = folder.join("pipe");
    let prepare = format!(
        "mkfifo {0}; cat {1} > {0} &",
        pipe.display(),
        folder.join("services.toml").display()
    );
    let setup = common::Setup {
        prepare: &prepare,
        tables: Some(&pipe),
        ..common::Setup::default()
    };
    let init = Init::start_with("pipe-tables", &sh("a", "exec sleep 1000", ""), &setup);
    init.until_state("a", "running");
    init.signal(Signal::SIGHUP);
    init.until("a word", || {
        init.console().contains("no regular file").then_some(())
    });
    assert_eq!(init.state("a"), "running");
}

/// A word that is no UTF-8 is wrong usage, also as PID 1.
#[test]
fn a_word_of_any_bytes_is_read() {
    use std::os::unix::ffi::OsStrExt;
    let output = std::process::Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            env!("CARGO_BIN_EXE_init"),
        ])
        .arg(std::ffi::OsStr::from_bytes(b"\xff"))
        .arg("--no-boot")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut odd = std::process::Command::new(env!("CARGO_BIN_EXE_init"));
    std::os::unix::process::CommandExt::arg0(&mut odd, std::ffi::OsStr::from_bytes(b"\xff"));
    let output = odd.arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "its own name: {output:?}");
}

/// A group with groups below it that hold controllers takes no process in.
#[test]
fn groups_that_a_service_made_are_gone_before_its_next_run() {
    let script = "own=$(sed -n 's/^0:://p' /proc/self/cgroup); \
                  top=$(sed -n 's/.* \\(.*\\) .* - cgroup2 .*/\\1/p' /proc/self/mountinfo | head -n 1); \
                  ls -d $top$own/below 2>/dev/null; mkdir -p $top$own/below/deep && \
                  echo $$ > $top$own/below/deep/cgroup.procs && echo moved; sleep 0.1; exit 1";
    let policy = "restart-delay = '10ms'\nrestart-delay-max = '10ms'";
    let init = Init::start("below", &sh("a", script, policy));
    if init.console().contains("no control groups") {
        return;
    }
    init.until("two runs", || (init.log("a").len() >= 2).then_some(()));
    let log = init.log("a");
    assert!(log.iter().all(|line| line == "moved"), "{log:?}");
}

/// Without control groups: what a process outside of the process group made while others were looked for and killed.
#[test]
fn what_is_made_during_a_kill_is_killed_too() {
    let setup = common::Setup {
        prepare: "umount -a -t cgroup2",
        ..common::Setup::default()
    };
    let script = "for n in 1 2 3 4 5 6; do \
                  setsid sh -c 'i=0; while [ $i -lt 100 ]; do sleep 1003 & i=$((i+1)); done' & \
                  done; sleep 0.1; exit 0";
    let init = Init::start_with("made", &sh("a", script, ""), &setup);
    init.until_state("a", "finished");
    init.until("an end of all", || {
        let left = descendants(init.pid());
        let sleeps = left.iter().any(|line| line.contains("sleep 1003"));
        (!sleeps).then_some(())
    });
}

/// The command lines of all processes in the namespace of `init`.
fn descendants(init: i32) -> Vec<String> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace(&init.to_string());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| ours.is_some() && namespace(pid) == ours)
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| line.replace('\0', " "))
        .collect()
}

#[test]
fn a_deaf_service_is_killed_after_its_patience() {
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let init = Init::start("deaf", &sh("a", script, "stop-timeout = '200ms'"));
    init.until_logged("a", "deaf");
    let begun = Instant::now();
    init.ctl_ok(&["stop", "a"]);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(init.status("a")["last_exit"], "signal 9 (KILL)");
}

#[test]
fn a_frozen_service_is_asked_to_end_like_any_other() {
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let init = Init::start("frozen", &sh("a", script, ""));
    init.until_logged("a", "up");
    init.ctl_ok(&["signal", "a", "STOP"]);
    init.ctl_ok(&["stop", "a", "--timeout", "9s"]);
    init.until_logged("a", "bye");
    assert_eq!(init.status("a")["last_exit"], "exit status 0");
}

/// So soon that the new process has not made its group yet, on a machine with other things to do.
#[test]
fn one_that_has_just_been_started_is_stopped_at_once() {
    let tables: String = (0..20)
        .map(|n| sh(&format!("s{n}"), "exec sleep 1000", "start = 'manual'"))
        .collect();
    let init = Init::start("at-once", &tables);
    let began = Instant::now();
    for n in 0..20 {
        let name = format!("s{n}");
        init.ctl_ok(&["start", &name, "--no-wait"]);
        init.ctl_ok(&["stop", &name, "--no-wait"]);
    }
    for n in 0..20 {
        init.until_state(&format!("s{n}"), "stopped");
    }
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
}

/// Whoever reads the answer may go away before the end.
#[test]
fn answers_to_nobody_and_to_a_full_disk_are_no_bugs() {
    let init = Init::start("answers", &sh("a", "exec sleep 1000", ""));
    let ask = |script: &str| {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_init")]);
        shell.arg(init.run_dir()).output().unwrap()
    };
    let words = ["status", "status --json", "status a", "restart a --json"];
    for words in words {
        let closed = format!("$0 ctl --run-dir $1 {words} | true; exit ${{PIPESTATUS[0]}}");
        let output = ask(&closed);
        assert_eq!(output.status.code(), Some(0), "{words}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
        let full = ask(&format!("$0 ctl --run-dir $1 {words} > /dev/full"));
        assert_eq!(full.status.code(), Some(1), "{words}");
        let error = String::from_utf8_lossy(&full.stderr).into_owned();
        assert!(error.contains("No space left"), "{words}: {error}");
    }
}

#[test]
fn services_start_in_order_and_stop_against_it() {
    let talk = |name: &str, ready: &str| {
        format!(
            "{ready} trap 'echo {name} stops >&2; sleep 0.05; exit 0' TERM; while :; do sleep 0.02; done"
        )
    };
    // Python says it where the machine has no systemd-notify; if neither does, `shop` never starts.
    let services = [
        sh("shop", &talk("shop", ""), "wait-for = ['service:db']"),
        sh(
            "db",
            &talk(
                "db",
                "sleep 0.3; systemd-notify --ready 2>/dev/null || \
            python3 -c \"import os,socket; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b'READY=1',os.environ['NOTIFY_SOCKET'])\";",
            ),
            "notify = true",
        ),
    ];
    let mut init = Init::start("order", &services.concat());
    assert_eq!(init.state("shop"), "waiting");
    assert_eq!(init.status("shop")["waiting_for"][0], "service:db");
    init.until_state("shop", "running");
    assert_eq!(init.state("db"), "running");
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
    let console = init.console();
    let at = |text: &str| {
        console
            .find(text)
            .unwrap_or_else(|| unreachable!("{text} in {console}"))
    };
    assert!(
        at("shop: exit status 0") < at("db: exit status 0"),
        "{console}"
    );
}

#[test]
fn fifty_services_stop_in_parallel() {
    let services: String = (0..50)
        .map(|n| sh(&format!("s{n}"), "exec sleep 1000", ""))
        .collect();
    let mut init = Init::start("fifty", &services);
    for n in 0..50 {
        init.until_state(&format!("s{n}"), "running");
    }
    let begun = Instant::now();
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
    // The budget is 0.45 s for a release build alone on the machine; this guards against stopping one by one.
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    // They all end as children of a shell that never waits, and come to us as zombies when it is killed.
    let many = "i=0; while [ $i -lt 10000 ]; do : & i=$((i+1)); done; kill -9 $$";
    let script = format!(
        "sh -c \"{}\"; echo made; exec sleep 1000",
        many.replace('$', "\\$")
    );
    let init = Init::start("orphans", &sh("a", &script, ""));
    init.until_logged("a", "made");
    init.until("no zombie", || {
        let stat =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.pid())).unwrap();
        let zombies = children
            .split_whitespace()
            .filter(|pid| stat(pid).contains(") Z "))
            .count();
        (zombies == 0 && children.split_whitespace().count() < 10).then_some(())
    });
    assert_eq!(init.state("a"), "running");
}

#[test]
fn a_silent_watchdog_is_answered() {
    let init = Init::start(
        "watchdog",
        &sh(
            "a",
            "exec sleep 1000",
            "watchdog = '300ms'\nrestart = 'never'",
        ),
    );
    let status = init.until_state("a", "stopped");
    assert_eq!(status["last_exit"], "watchdog: silent for 300ms");
}

#[test]
fn requests_are_answered_with_exact_exit_codes() {
    let init = Init::start(
        "codes",
        &(sh("a", "exec sleep 1000", "") + &sh("m", "exec sleep 1000", "start = 'manual'")),
    );
    init.until_state("a", "running");
    let code = |words: &[&str]| init.ctl(words).status.code();
    assert_eq!(init.state("m"), "stopped");
    assert_eq!(code(&["start", "m"]), Some(0));
    assert_eq!(init.state("m"), "running");
    assert_eq!(code(&["start", "m"]), Some(0), "it runs already");
    assert_eq!(code(&["stop", "m"]), Some(0));
    assert_eq!(init.state("m"), "stopped");
    let before = init.status("a")["pid"].clone();
    assert_eq!(code(&["restart", "a"]), Some(0));
    assert_ne!(init.status("a")["pid"], before);
    assert_eq!(code(&["status", "none"]), Some(4));
    assert_eq!(code(&["start", "none"]), Some(4));
    assert_eq!(code(&["signal", "m", "HUP"]), Some(1));
    assert_eq!(code(&["signal", "a", "NOPE"]), Some(1));
    assert_eq!(code(&["explode"]), Some(2));
    assert_eq!(code(&["stop", "logd"]), Some(1));
    assert_eq!(code(&["signal", "a", "KILL"]), Some(0));
    init.until("a to be killed", || {
        (init.status("a")["last_exit"] == "signal 9 (KILL)").then_some(())
    });
    let elsewhere = init.folder.join("elsewhere");
    let lost = std::process::Command::new(env!("CARGO_BIN_EXE_init"))
        .args(["ctl", "status", "--run-dir"])
        .arg(elsewhere)
        .output()
        .unwrap();
    assert_eq!(lost.status.code(), Some(3));
}

#[test]
fn a_diversion_runs_in_a_services_place_until_its_program_is_gone() {
    let init = Init::start(
        "divert",
        &sh(
            "a",
            "echo original; exec sleep 1000",
            "restart-delay = '10ms'",
        ),
    );
    init.until_logged("a", "original");
    let program = init.folder.join("other");
    common::write(&program, "#!/bin/sh\necho diverted $1\nexec sleep 1000\n");
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let path = program.to_str().unwrap();
    init.ctl_ok(&["divert", "a", path, "--", "--word"]);
    init.until_logged("a", "diverted --word");
    assert_eq!(init.status("a")["diverted"], format!("{path} --word"));
    std::fs::remove_file(&program).unwrap();
    let refused = init.ctl(&["divert", "a", path]);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains(&format!("there is no {path}")), "{error}");
    let _ = init.ctl(&["restart", "a"]);
    init.until("the original again", || {
        (init
            .log("a")
            .iter()
            .filter(|line| *line == "original")
            .count()
            == 2)
            .then_some(())
    });
    assert!(init.status("a")["diverted"].is_null());
}

#[test]
fn a_broken_table_stops_nobody_and_is_named() {
    let services = "[[service]]\nname = 'bad'\ncolour = 'red'\ncommand = ['/x']\n".to_owned()
        + &sh("good", "exec sleep 1000", "");
    let init = Init::start("broken", &services);
    init.until_state("good", "running");
    let console = init.console();
    assert!(
        console.contains("services.toml:3: unknown field `colour`"),
        "{console}"
    );
}

#[test]
fn conditions_of_the_machine_hold_a_start_back() {
    let mounted = std::env::temp_dir().join(format!("in-mount-{}", std::process::id()));
    std::fs::create_dir_all(&mounted).unwrap();
    let services = sh("clock", "exec sleep 1000", "wait-for = ['clock']")
        + &sh("there", "exec sleep 1000", "wait-for = ['mount:/proc']")
        + &sh(
            "disk",
            "exec sleep 1000",
            &format!("wait-for = ['mount:{}']", mounted.display()),
        );
    // The clock file is there before init, and its word goes before the kernel's.
    let run = std::env::temp_dir().join(format!("in-conditions-{}/run", std::process::id()));
    let prepare = format!("echo synchronised=no > {}/clock", run.display());
    let setup = common::Setup {
        prepare: &prepare,
        ..common::Setup::default()
    };
    let init = Init::start_with("conditions", &services, &setup);
    init.until_state("there", "running");
    assert_eq!(
        (init.state("clock"), init.state("disk")),
        ("waiting".to_owned(), "waiting".to_owned())
    );
    assert_eq!(
        init.ctl(&["start", "clock"]).status.code(),
        Some(0),
        "it waits, as it was asked to"
    );
    common::write(&init.run_dir().join("clock"), "synchronised=yes\n");
    init.until_state("clock", "running");
    assert_eq!(init.state("disk"), "waiting");
    assert_eq!(init.ctl(&["stop", "disk"]).status.code(), Some(0));
    assert_eq!(init.state("disk"), "stopped");
    std::fs::remove_dir_all(mounted).unwrap();
}

#[test]
fn a_folder_of_tables_is_read_in_the_order_of_its_names() {
    let mut init = Init::start("folder", "");
    init.signal(Signal::SIGTERM);
    init.wait();
    let folder = init.folder.join("services.d");
    std::fs::create_dir_all(&folder).unwrap();
    common::write(&folder.join("10-a.toml"), &sh("a", "exit 0", ""));
    common::write(
        &folder.join("20-b.toml"),
        &(sh("a", "exit 1", "") + &sh("b", "exit 0", "")),
    );
    common::write(&folder.join("30-c.toml"), "[[service]]\nname = ");
    common::write(&folder.join("notes.txt"), "no table");
    common::write(&folder.join(".hidden.toml"), "no table either");
    let run_dir = init.folder.join("run2");
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_init"))
        .args(["--no-boot", "--services"])
        .arg(&folder)
        .arg("--run-dir")
        .arg(&run_dir)
        .arg("--home-dir")
        .arg(init.folder.join("home"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    init.until("both states", || {
        let finished = |name: &str| {
            let text =
                std::fs::read_to_string(run_dir.join("service").join(name)).unwrap_or_default();
            text.contains("state=finished")
        };
        (finished("a") && finished("b")).then_some(())
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(second.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let mut complaints = String::new();
    std::io::Read::read_to_string(second.stderr.as_mut().unwrap(), &mut complaints).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(
        complaints.contains("20-b.toml:1: name `a` is taken"),
        "{complaints}"
    );
    assert!(complaints.contains("30-c.toml:2:"), "{complaints}");
    assert!(!complaints.contains("hidden"), "{complaints}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_touched() {
    let run = |words: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_init"))
            .args(words)
            .output()
            .unwrap()
    };
    // Of this test alone: a folder that somebody made would be a folder without services, and no error.
    let none = std::env::temp_dir().join(format!("in-none-{}", std::process::id()));
    let none = none.to_str().unwrap();
    for words in [
        &["--no-boot", "--services", none, "--run-dir", none][..],
        &["--no-boot", "--colour"],
        &["--no-boot", "--shutdown-timeout", "soon"],
        &[],
        &["ctl"],
        &["ctl", "start"],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
    assert!(!std::path::Path::new(none).exists());
    for words in [&["--help"][..], &["--version"], &["ctl", "--help"]] {
        assert_eq!(run(words).status.code(), Some(0), "{words:?}");
    }
}
