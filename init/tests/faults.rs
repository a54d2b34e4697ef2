//! What goes wrong around init, and leaves it standing.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, read the clock and wait for their children"
)]

mod common;

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use std::time::{Duration, Instant};

use common::{Init, Setup, sh};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};

/// A service that can still be started, stopped and read is proof enough that init works.
#[track_caller]
fn check_alive(init: &Init) {
    init.ctl_ok(&["restart", "alive"]);
    init.ctl_ok(&["stop", "alive"]);
    init.ctl_ok(&["start", "alive"]);
    init.until_logged("alive", "here");
}

fn alive() -> String {
    sh("alive", "echo here; exec sleep 1000", "")
}

#[test]
fn a_killed_logd_comes_back_and_loses_nothing_but_what_it_had_in_hand() {
    let script = "i=0; while [ $i -lt 700 ]; do echo line $i; i=$((i+1)); sleep 0.001; done; echo done; exec sleep 1000";
    let init = Init::start("logd", &sh("a", script, "log-max = '1M'"));
    init.until_logged("a", "line 100");
    for _ in 0..3 {
        let old = init.status("logd")["pid"].as_i64().unwrap();
        init.ctl_ok(&["signal", "logd", "KILL"]);
        init.until("a new logd", || {
            init.status("logd")["pid"]
                .as_i64()
                .filter(|pid| *pid != old)
        });
    }
    init.until_logged("a", "done");
    let log: HashSet<String> = init.log("a").into_iter().collect();
    let is_lost = |n: &u32| !log.contains(&format!("line {n}"));
    // What was read at once, and not written yet.
    let gaps = (1..700).filter(|n| is_lost(n) && !is_lost(&(n - 1)));
    assert!(gaps.count() <= 3, "{log:?}");
}

/// Prints numbered lines as fast as it can, and then how long it was held up at most, in milliseconds.
const FLOOD: &str = "import os, time\n\
     longest, number = 0, 0\n\
     for turn in range(500):\n\
    \x20lines = b''.join(b'%d\\n' % (number + n) for n in range(200))\n\
    \x20number += 200\n\
    \x20before = time.monotonic()\n\
    \x20while lines: lines = lines[os.write(1, lines):]\n\
    \x20longest = max(longest, time.monotonic() - before)\n\
     os.write(1, b'longest %d\\n' % (longest * 1000))";

#[test]
fn a_logd_that_is_killed_in_a_flood_loses_no_more_than_it_had_in_hand() {
    let services = format!(
        "[[service]]\nname = 'a'\nuser = 'root'\nlog-max = '16M'\nstart = 'manual'\ncommand = ['python3', '-c', '''{FLOOD}''']\n"
    );
    let init = Init::start("logd-flood", &services);
    // The first finds the pipe full.
    init.until_state("logd", "running");
    init.ctl_ok(&["signal", "logd", "STOP"]);
    init.ctl_ok(&["start", "a"]);
    std::thread::sleep(Duration::from_millis(300));
    let mut kills = 0;
    let mut away = Duration::ZERO;
    while !has_ended(&init) && kills < 5 {
        let old = init.status("logd")["pid"].as_i64().unwrap();
        let killed = Instant::now();
        init.ctl_ok(&["signal", "logd", "KILL"]);
        init.until("a new logd", || {
            let pid = init.status("logd")["pid"].as_i64();
            pid.filter(|pid| *pid != old)
        });
        away = away.max(killed.elapsed());
        kills += 1;
    }
    init.until("the end of the flood", || has_ended(&init).then_some(()));
    let log = init.until("its last line", || {
        let log = kept(&init, "a");
        log.contains("longest ").then_some(log)
    });
    // The text is what stands behind times, stream and priority.
    let texts = || log.lines().filter_map(|line| line.splitn(5, ' ').nth(4));
    let numbers: HashSet<u32> = texts().filter_map(|text| text.parse().ok()).collect();
    // What a logd had read and not written yet: a pipe's worth at most.
    let lost = (0..100_000)
        .filter(|number| !numbers.contains(number))
        .count();
    assert!(
        lost * 6 <= kills * 65_536,
        "{lost} lines are lost by {kills} kills"
    );
    assert!(kills > 0);
    let longest = texts().find_map(|text| text.strip_prefix("longest "));
    let longest = Duration::from_millis(longest.unwrap().parse().unwrap());
    // Nobody was held up for longer than no logd was there, but for the machine's own load.
    assert!(
        longest <= away + Duration::from_secs(5),
        "{longest:?}, {away:?}"
    );
}

/// The log as it is kept, which is faster read than shown.
fn kept(init: &Init, name: &str) -> String {
    let folder = std::fs::read_dir(init.run_dir().join("log").join(name));
    let mut segments: Vec<_> = folder.unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    let bytes = segments.iter().filter_map(|path| std::fs::read(path).ok());
    String::from_utf8_lossy(&bytes.flatten().collect::<Vec<u8>>()).into_owned()
}

fn has_ended(init: &Init) -> bool {
    init.state("a") == "finished"
}

#[test]
fn last_lines_without_an_end_stay_apart_however_fast_the_next_run_comes() {
    let script = "printf 'part %s' $$; exit 1";
    let more = "restart-delay = '1ms'\nrestart-delay-max = '1ms'";
    let init = Init::start("parts", &sh("a", script, more));
    init.until("thirty runs", || {
        (init.status("a")["restarts"].as_u64() > Some(30)).then_some(())
    });
    init.ctl_ok(&["stop", "a"]);
    init.until("their lines", || (init.log("a").len() > 30).then_some(()));
    let log = init.log("a");
    assert!(
        log.iter().all(|line| line.matches("part").count() == 1),
        "{log:?}"
    );
}

#[test]
fn few_descriptors_delay_services_and_nothing_else() {
    let services: String = (0..20)
        .map(|n| {
            sh(
                &format!("s{n}"),
                "exec sleep 1000",
                "restart-delay = '50ms'",
            )
        })
        .collect();
    let setup = Setup {
        before: &[
            "prlimit",
            "--nofile=40:40",
            "setpriv",
            "--bounding-set",
            "-sys_resource",
        ],
        ..Setup::default()
    };
    let init = Init::start_with("emfile", &services, &setup);
    init.until("a start to fail", || {
        init.console().contains("no descriptors left").then_some(())
    });
    init.until_state("s0", "running");
    init.ctl_ok(&["stop", "s0"]);
    assert_eq!(init.state("s0"), "stopped");
}

#[test]
fn a_full_run_folder_is_survived() {
    let run = std::env::temp_dir().join(format!("in-full-{}/run", std::process::id()));
    let prepare = format!("mount -t tmpfs -o size=256k tmpfs {}", run.display());
    let setup = Setup {
        prepare: &prepare,
        ..Setup::default()
    };
    let init = Init::start_with("full", &alive(), &setup);
    let inside = init.run_dir();
    let filler = inside.join("filler");
    init.until("the folder to be full", || {
        use std::io::Write;
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&filler);
        file.unwrap().write_all(&[0; 4096]).is_err().then_some(())
    });
    let old = init.status("alive")["pid"].as_i64();
    assert_eq!(
        init.ctl(&["restart", "alive", "--no-wait"]).status.code(),
        Some(0)
    );
    init.until("init to complain", || {
        init.console().contains("trying again").then_some(())
    });
    std::fs::remove_file(&filler).unwrap();
    init.until("the state of a new process", || {
        let status = init.status("alive");
        (status["state"] == "running" && status["pid"].as_i64() != old).then_some(())
    });
}

#[test]
fn malformed_greedy_and_silent_clients_cost_themselves() {
    let init = Init::start("fuzz", &alive());
    init.until_state("alive", "running");
    let path = init.run_dir().join("control.sock");
    let client = || {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        fd
    };
    let silent: Vec<_> = (0..100).map(|_| client()).collect();
    let mut seed = 1_u64;
    for _ in 0..300 {
        let one = client();
        let length = usize::try_from(seed % 40_000).unwrap();
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            })
            .collect();
        let _ = send(
            one.as_raw_fd(),
            &bytes,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        );
        seed = seed.wrapping_add(977);
    }
    // Asks and never reads the answers.
    let greedy = client();
    for _ in 0..2000 {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(
            greedy.as_raw_fd(),
            b"request=signal\nname=alive\nsignal=URG\n",
            flags,
        );
    }
    check_alive(&init);
    drop(silent);
}

#[test]
fn rubbish_on_a_notify_socket_is_passed_over_and_strangers_are_not_believed() {
    let init = Init::start(
        "notify",
        &(alive() + &sh("a", "exec sleep 1000", "notify = true")),
    );
    init.until("the socket", || {
        init.run_dir().join("notify/a").exists().then_some(())
    });
    let socket = UnixDatagram::unbound().unwrap();
    let to = init.run_dir().join("notify/a");
    for datagram in [
        &b""[..],
        b"\0",
        b"READY",
        &[0xff; 8192],
        b"WATCHDOG=trigger",
        b"READY=1",
    ] {
        let _ = socket.send_to(datagram, &to);
    }
    check_alive(&init);
    assert_eq!(
        init.state("a"),
        "starting",
        "the test is no process of the service"
    );
}

#[test]
fn a_flood_leaves_pid_1_flat_and_the_log_bounded() {
    let flood = "exec yes 0123456789012345678901234567890123456789012345678901234567890123";
    let init = Init::start("flood", &(alive() + &sh("a", flood, "log-max = '128K'")));
    init.until("many lines", || (init.log("a").len() > 200).then_some(()));
    let before = ticks(init.pid());
    std::thread::sleep(std::time::Duration::from_secs(2));
    let used = ticks(init.pid()) - before;
    assert!(used <= 2, "PID 1 used {used} ticks of 10 ms");
    let folder = init.run_dir().join("log/a");
    let size: u64 = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum();
    assert!(size <= 128 * 1024, "{size}");
    check_alive(&init);
}

/// Processor time of a process, user and system, in ticks (proc_pid_stat(5), fields 14 and 15).
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_last_line_without_its_end_is_kept_and_stays_apart_from_the_next_run() {
    let services = sh("a", "printf last; exit 0", "")
        + &sh("b", "printf again; exit 1", "restart-delay = '500ms'")
        + &sh("c", "printf err >&2; exec sleep 1000", "");
    let init = Init::start("part", &services);
    init.until_logged("a", "last");
    init.until("three runs", || (init.log("b").len() >= 3).then_some(()));
    assert!(init.log("b").iter().all(|line| line == "again"));
    init.until_state("c", "running");
    init.ctl_ok(&["stop", "c"]);
    init.until_logged("c", "err");
}

#[test]
fn endless_output_without_a_line_break_is_bounded() {
    let init = Init::start(
        "endless",
        &(alive() + &sh("a", "exec cat /dev/zero", "log-max = '64K'")),
    );
    init.until_logged("a", "\0");
    let logd = init.status("logd");
    assert_eq!(logd["state"], "running");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let folder = init.run_dir().join("log/a");
    let size: u64 = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum();
    assert!(size <= 64 * 1024, "{size}");
    check_alive(&init);
}

#[test]
fn each_signal_to_end_ends() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPWR,
    ] {
        let mut init = Init::start("signals", &alive());
        init.until_state("alive", "running");
        init.signal(Signal::SIGHUP);
        init.signal(signal);
        assert_eq!(init.wait(), Some(0), "{signal}");
        assert!(!init.run_dir().join("control.sock").exists());
    }
}

/// Outside a PID namespace, where nobody kills the orphans of a killed init.
#[test]
fn after_a_killed_init_the_next_one_begins_from_nothing() {
    let init = Init::start("killed", &alive());
    let run_dir = init.folder.join("second");
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_init"))
            .args(["--no-boot", "--services"])
            .arg(init.folder.join("services.toml"))
            .arg("--home-dir")
            .arg(init.folder.join("home"))
            .arg("--run-dir")
            .arg(&run_dir)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let running = |other: Option<i32>| {
        init.until("alive to run", || {
            let text = std::fs::read_to_string(run_dir.join("service/alive")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("pid="))?;
            let pid = line.parse::<i32>().ok()?;
            (text.contains("state=running") && Some(pid) != other).then_some(pid)
        })
    };
    let mut first = start();
    let orphan = running(None);
    // One that has not printed yet would end by itself: nobody reads its pipe then.
    init.until("its line", || {
        let log = std::fs::read_to_string(run_dir.join("log/alive/0000000001.log")).ok()?;
        log.contains("here").then_some(())
    });
    first.kill().unwrap();
    first.wait().unwrap();

    let mut second = start();
    running(Some(orphan));
    let began = std::time::Instant::now();
    let number = nix::unistd::Pid::from_raw(second.id().try_into().unwrap());
    nix::sys::signal::kill(number, Signal::SIGTERM).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    let mut said = String::new();
    std::io::Read::read_to_string(second.stderr.as_mut().unwrap(), &mut said).unwrap();
    // Nobody may have waited for it yet; a dead process has no command line.
    let words = std::fs::read(format!("/proc/{orphan}/cmdline")).unwrap_or_default();
    let lives = !words.is_empty();
    if said.contains("no control groups") {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(orphan), Signal::SIGKILL);
    } else {
        assert!(!lives && said.contains("left behind"), "{said}");
    }
}

#[test]
fn a_run_folder_belongs_to_one_init() {
    let init = Init::start("shared", &sh("a", "exec sleep 1000", ""));
    init.until_state("a", "running");
    let inside = init.run_dir();
    let again = |run_dir: &std::path::Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_init"))
            .args(["--no-boot", "--services"])
            .arg(init.folder.join("services.toml"))
            .arg("--home-dir")
            .arg(init.folder.join("home"))
            .arg("--run-dir")
            .arg(run_dir)
            .output()
            .unwrap()
    };
    let second = again(&inside);
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    let named = format!("another init runs at {}", inside.display());
    assert!(error.contains(&named), "{error}");
    assert_eq!(init.state("a"), "running", "the first is not disturbed");

    let file = init.folder.join("services.toml").join("run");
    let impossible = again(&file);
    assert_eq!(impossible.status.code(), Some(1));
    let error = String::from_utf8(impossible.stderr).unwrap();
    assert!(error.contains("Not a directory"), "the reason: {error}");
}

/// The kernel refuses it to an init that is not root, where the service is another user's by now.
#[test]
fn a_signal_that_is_refused_is_told() {
    let tracer = "strace -D -qq -o /dev/null -e trace=kill -e inject=kill:error=EPERM";
    let before: Vec<&str> = tracer.split(' ').collect();
    let setup = Setup {
        before: &before,
        ..Setup::default()
    };
    let init = Init::start_with("eperm", &alive(), &setup);
    init.until_state("alive", "running");
    let output = init.ctl(&["signal", "alive", "HUP"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("alive: send it: Operation not permitted"),
        "{error}"
    );
}

/// Where init is not the first process, nobody else would end it.
#[test]
fn a_log_keeper_that_does_not_end_is_not_left_behind() {
    let keeper = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n";
    let place = std::env::temp_dir().join(format!("in-keeper-{}", std::process::id()));
    std::fs::write(&place, keeper).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    let names = "for entry in /proc/[0-9]*; do cat $entry/comm; done; echo all";
    let first = format!("\"$@\"; status=$?; {names}; exit $status");
    let setup = Setup {
        before: &["sh", "-c", &first, "sh"],
        flags: &[
            "--logd",
            place.to_str().unwrap(),
            "--shutdown-timeout",
            "100ms",
        ],
        ..Setup::default()
    };
    let deaf = "trap '' TERM; while :; do sleep 0.1; done";
    let mut init = Init::start_with("left", &sh("a", deaf, "stop-timeout = '1h'"), &setup);
    init.until_state("a", "running");
    let name: String = format!("in-keeper-{}", std::process::id());
    // The kernel keeps 15 bytes of a name.
    let name = name.get(..15).unwrap_or(&name);
    init.until("the keeper", || {
        let pid = init.status("logd")["pid"].as_i64()?;
        let comm = std::fs::read_to_string(format!("/proc/{}/root/proc/{pid}/comm", init.pid()));
        comm.is_ok_and(|comm| comm.trim() == name).then_some(())
    });
    init.ctl_ok(&["poweroff"]);
    assert_eq!(init.wait(), Some(0));
    std::fs::remove_file(&place).unwrap();
    let console = init.console();
    assert!(console.ends_with("all\n"), "{console}");
    assert!(!console.lines().any(|line| line == name), "{console}");
}

#[test]
fn logd_holds_more_pipes_than_a_service_may_open_files() {
    let services: String = (0..60)
        .map(|n| sh(&format!("s{n}"), &format!("echo I am {n}"), ""))
        .collect();
    let setup = Setup {
        before: &["prlimit", "--nofile=64:4096"],
        ..Setup::default()
    };
    let init = Init::start_with("pipes", &services, &setup);
    for n in 0..60 {
        init.until_logged(&format!("s{n}"), &format!("I am {n}"));
    }
}

/// On a device 902 is our web page; elsewhere it may be anybody.
#[test]
fn in_a_container_the_user_of_our_web_page_is_nobody() {
    let init = Init::start("stranger", &alive());
    init.until_state("alive", "running");
    let program = init.folder.join("ctl");
    // Where the stranger may run it; by another process, for a child of this one must not hold it open (ETXTBSY).
    let copied = std::process::Command::new("install")
        .args(["-m", "755", env!("CARGO_BIN_EXE_init")])
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let ask = |words: &[&str]| {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "902", "--regid", "902", "--clear-groups"])
            .arg(&program)
            .args(["ctl", "--run-dir"])
            .arg(init.folder.join("run"))
            .args(words)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(ask(&["status", "alive"]), Some(0));
    assert_eq!(ask(&["stop", "alive"]), Some(5));
    assert_eq!(ask(&["divert", "x", "/bin/true"]), Some(5));
    assert_eq!(init.state("alive"), "running");
}

/// An init that stands still meanwhile finds first that a child has ended, and takes all ends in at once.
#[test]
fn ready_and_gone_at_once_is_ready() {
    const SPEAKER: &str = "import os, socket, time\n\
         while not os.path.exists('second'): time.sleep(0.01)\n\
         one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         one.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])";
    let folder = std::env::temp_dir().join(format!("in-quick-{}", std::process::id()));
    let place = format!("working-directory = '{}'", folder.display());
    let speaker = |n: u32| {
        format!(
            "[[service]]\nname = 's{n}'\nuser = 'root'\nnotify = true\n{place}\n\
             command = ['python3', '-S', '-c', \"\"\"{SPEAKER}\"\"\"]\n"
        )
    };
    let first = sh("first", "while [ ! -e first ]; do sleep 0.01; done", &place);
    let services: String = (0..8).map(speaker).collect();
    let init = Init::start("quick", &(first + &services));
    let pids = |names: Vec<String>| -> Vec<i64> {
        let pid = |name: String| init.until("its process", || init.status(&name)["pid"].as_i64());
        names.into_iter().map(pid).collect()
    };
    let speakers = pids((0..8).map(|n| format!("s{n}")).collect());
    let first = pids(vec!["first".to_owned()]);
    let ended = |pid: &i64| {
        let stat = format!("/proc/{}/root/proc/{pid}/stat", init.pid());
        std::fs::read_to_string(stat).is_ok_and(|stat| stat.contains(") Z "))
    };
    init.signal(Signal::SIGSTOP);
    for (file, pids) in [("first", first), ("second", speakers)] {
        std::fs::write(init.folder.join(file), "").unwrap();
        init.until("their ends", || pids.iter().all(ended).then_some(()));
    }
    init.signal(Signal::SIGCONT);
    for n in 0..8 {
        let status = init.until("its end to be taken in", || {
            let status = init.status(&format!("s{n}"));
            (status["pid"].is_null() || status["restarts"] != 0).then_some(status)
        });
        assert_eq!(
            (&status["state"], &status["restarts"]),
            (&"finished".into(), &0.into()),
            "{status}"
        );
    }
}

/// Told to end in the middle of a line, logd keeps what it has of it.
#[test]
fn a_line_without_its_end_outlives_the_logd_that_read_it() {
    let services = sh("a", "printf 'no end'; exec sleep 1000", "");
    let init = Init::start("half-line", &services);
    init.until_state("a", "running");
    // Another's line, printed later, tells that logd has read the first one.
    let later = sh("b", "echo later", "");
    common::write(&init.folder.join("services.toml"), &(services + &later));
    init.signal(Signal::SIGHUP);
    init.until("the second service", || {
        init.ctl(&["status", "b"]).status.success().then_some(())
    });
    init.until_logged("b", "later");
    init.ctl_ok(&["restart", "logd"]);
    init.until_logged("a", "no end");
}

/// Root's requests are answered however many connections a stranger makes meanwhile.
#[test]
fn a_stranger_who_connects_without_end_costs_nobody_else_a_connection() {
    const FLOOD: &str = "import os, socket, sys\n\
         os.setgid(4711); os.setuid(4711)\n\
         held = []\n\
         print('floods', flush=True)\n\
         while True:\n\
        \x20one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        \x20one.connect(sys.argv[1])\n\
        \x20held = held[-100:] + [one]";
    let init = Init::start("greedy", &alive());
    init.until_state("alive", "running");
    let mut stranger = std::process::Command::new("python3")
        .args(["-S", "-c", FLOOD])
        .arg(init.folder.join("run/control.sock"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 6];
    std::io::Read::read_exact(stranger.stdout.as_mut().unwrap(), &mut word).unwrap();
    let failed: Vec<_> = (0..40)
        .map(|_| init.ctl(&["signal", "alive", "URG"]))
        .filter(|output| !output.status.success())
        .collect();
    let floods = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(floods, "the stranger gave up");
    assert!(failed.is_empty(), "{failed:?}");
}

/// Words that say nothing new cost no file, and new ones a few in a second.
#[test]
fn a_flood_of_status_texts_costs_pid_1_few_files() {
    const TALKER: &str = "import os, socket, time\n\
         own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         own.connect(os.environ['NOTIFY_SOCKET'])\n\
         own.send(b'READY=1')\n\
         turn = 0\n\
         while turn < 20000:\n\
        \x20own.send(b'STATUS=turn %d' % turn)\n\
        \x20turn += 1\n\
         own.send(b'STATUS=done')\n\
         time.sleep(1000)";
    let talker = format!(
        "[[service]]\nname = 'a'\nuser = 'root'\nnotify = true\n\
         command = ['python3', '-S', '-c', \"\"\"{TALKER}\"\"\"]\n"
    );
    let init = Init::start("talker", &talker);
    let file = init.run_dir().join("service/a");
    let (mut moments, began) = (HashSet::new(), Instant::now());
    init.until("its last word", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let metadata = std::fs::metadata(&file).ok()?;
        let changed = metadata.modified().ok()?;
        moments.insert(changed);
        // The script itself stands there too.
        let last = text
            .lines()
            .any(|line| line.starts_with("status_text") && line.contains("done"));
        last.then_some(())
    });
    let files = moments.len() as u128;
    let most = 10 + began.elapsed().as_millis() / 100;
    assert!(files <= most, "{files} files, {most} at most");
}
