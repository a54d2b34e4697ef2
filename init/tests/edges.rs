//! What services inherit and what they say, bad programs, odd paths, tables with faults: seen from outside.
#![expect(
    clippy::tests_outside_test_module,
    clippy::disallowed_methods,
    reason = "a failure is a panic"
)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use common::{Init, Setup, sh};
use nix::sys::signal::Signal;

/// A service of root's that runs a Python script, in which `say` speaks to init.
fn python(name: &str, script: &str, more: &str) -> String {
    let say = "import os, socket, time\n\
               own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
               to = os.environ['NOTIFY_SOCKET']\n\
               own.connect(chr(0) + to[1:] if to[0] == '@' else to)\n\
               say = own.send\n";
    format!(
        "[[service]]\nname = '{name}'\nuser = 'root'\ncommand = ['python3', '-uc', '''{say}{script}''']\n{more}\n"
    )
}

#[test]
fn a_service_inherits_nothing_that_is_inits_own() {
    let odd = "umask 077; trap '' TERM INT CHLD PIPE; exec 7>&1; exec \"$@\"";
    let setup = Setup {
        before: &[
            "env",
            "NOTIFY_SOCKET=/nowhere",
            "WATCHDOG_USEC=1",
            "LISTEN_FDS=3",
            "GOKRAZY_FIRST_START=1",
            "KEPT=yes",
            "sh",
            "-c",
            odd,
            "sh",
        ],
        ..Setup::default()
    };
    let script = "umask; ls /proc/self/fd | wc -l; grep -E 'SigBlk|SigIgn' /proc/self/status; env; \
                  [ -z \"$GOKRAZY_FIRST_START\" ] || exit 1; echo again; exec sleep 1000";
    let services = sh("a", script, "restart-delay = '10ms'");
    let mut init = Init::start_with("inherit", &services, &setup);
    init.until_logged("a", "again");
    let log = init.log("a");
    let has = |wanted: &str| log.iter().any(|line| line == wanted);
    assert!(has("0022") && has("KEPT=yes"), "{log:?}");
    // Input, output, errors, and the folder that `ls` reads.
    assert!(has("4"), "{log:?}");
    for mask in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(has(mask), "{log:?}");
    }
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"] {
        assert!(
            !log.iter().any(|line| line.starts_with(variable)),
            "{log:?}"
        );
    }
    init.signal(Signal::SIGTERM);
    assert_eq!(
        init.wait(),
        Some(0),
        "an init that was told to ignore signals hears them"
    );
}

#[test]
fn why_a_program_cannot_be_run_is_told() {
    let init = Init::start("reasons", "");
    let at = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = init.folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    for (program, reason) in [
        ("/no/such/program".to_owned(), "No such file or directory"),
        (at("closed", "#!/bin/sh\n", 0o644), "Permission denied"),
        (
            at("script", "#!/no/interpreter\n", 0o755),
            "it is there, but the interpreter",
        ),
        (at("empty", "", 0o755), "Exec format error"),
    ] {
        let services = format!(
            "[[service]]\nname = 'bad'\nuser = 'root'\nrestart-delay = '5ms'\nrestart-delay-max = '5ms'\ncommand = ['{program}']\n"
        );
        let init = Init::start("reason", &services);
        let bad = init.until_state("bad", "crash-loop");
        let why = bad["last_exit"].as_str().unwrap();
        assert!(
            why.starts_with(&format!("start failed: run {program}: {reason}")),
            "{why}"
        );
        init.until("the loop on the console", || {
            init.console().contains("bad: start failed").then_some(())
        });
        assert!(
            init.console().contains("a crash loop"),
            "{}",
            init.console()
        );
    }
}

/// As when memory runs out while it sets itself up: those that wait for it wait on.
#[test]
fn one_that_is_killed_on_the_way_to_its_program_has_not_started() {
    let services = sh("a", "exec sleep 1000", "restart = 'never'")
        + &sh("b", "exec sleep 1000", "wait-for = ['service:a']");
    // Of the child's calls, the one that it makes before it raises its fences.
    let tracer = "strace -D -f -qq -o /dev/null -e trace=setsid -e inject=setsid:signal=SIGKILL";
    let before: Vec<&str> = tracer.split(' ').collect();
    let setup = Setup {
        before: &before,
        ..Setup::default()
    };
    let init = Init::start_with("early", &services, &setup);
    let a = init.until_state("a", "stopped");
    let why = "start failed: signal 9 (KILL) before its program ran";
    assert_eq!(a["last_exit"], why);
    let history = a["history"].as_array().unwrap();
    assert!(
        !history.iter().any(|change| change["state"] == "running"),
        "{a}"
    );
    assert_eq!(init.state("b"), "waiting");
}

#[test]
fn a_stop_asks_those_too_that_left_the_process_group() {
    let script = "setsid sh -c 'trap \"echo heard; exit\" TERM; echo listening; while :; do sleep 0.05; done' & sleep 1000";
    let init = Init::start("polite", &sh("a", script, "stop-timeout = '60s'"));
    init.until_state("a", "running");
    init.until_logged("a", "listening");
    let asked = Instant::now();
    init.ctl_ok(&["stop", "a"]);
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "it was killed, not asked"
    );
    init.until_logged("a", "heard");
}

#[test]
fn what_a_service_says_of_itself_is_shown() {
    let script = "say(b'READY=1\\nSTATUS=serving')\ntime.sleep(0.3)\nsay(b'RELOADING=1')\ntime.sleep(1.5)\nsay(b'READY=1')\ntime.sleep(1000)";
    let init = Init::start("says", &python("a", script, "notify = true"));
    init.until_state("a", "reloading");
    init.until_state("a", "running");
    assert_eq!(init.status("a")["status_text"], "serving");
}

#[test]
fn descriptors_sent_to_init_are_closed_by_it() {
    let script = "import array\n\
                  many = array.array('i', [2] * 200).tobytes()\n\
                  for turn in range(50): own.sendmsg([b'STATUS=%d' % turn], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])\n\
                  say(b'READY=1')\n\
                  time.sleep(1000)";
    let init = Init::start("rights", &python("a", script, "notify = true"));
    init.until_state("a", "running");
    let open = fs::read_dir(format!("/proc/{}/fd", init.pid()))
        .unwrap()
        .count();
    assert!(open < 50, "{open} descriptors");
}

#[test]
fn a_run_folder_deeper_than_a_sockets_address_serves_all_the_same() {
    let script = "say(b'READY=1')\ntime.sleep(1000)";
    let name = "x".repeat(120);
    let mut init = Init::start(&name, &python("a", script, "notify = true"));
    init.until_state("a", "running");
    assert_eq!(init.ctl(&["stop", "nobody"]).status.code(), Some(4));
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
}

#[test]
fn faults_of_a_table_cost_no_more_than_themselves() {
    let init = Init::start("faults", &sh("a", "exec sleep 1000", "colour = 'red'"));
    init.until_state("a", "running");
    assert!(
        init.console().contains("unknown field `colour`"),
        "{}",
        init.console()
    );

    let mut bytes = sh("b", "exec sleep 1000", "").into_bytes();
    bytes.extend(b"[[service]]\nname = 'c\xff'\ncommand = ['/c']\n");
    let folder = init.folder.join("tables");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), bytes).unwrap();
    nix::unistd::mkfifo(&folder.join("b.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("c.toml")).unwrap();
    let second = Init::start_with(
        "fifo",
        "",
        &Setup {
            tables: Some(&folder),
            ..Setup::default()
        },
    );
    second.until_state("b", "running");
    let console = second.console();
    for wanted in [
        "a byte that is no UTF-8",
        "b.toml: no regular file",
        "c.toml: no regular file",
    ] {
        assert!(console.contains(wanted), "{wanted}: {console}");
    }
}

#[test]
fn init_stands_in_for_a_log_keeper_that_cannot_be_run() {
    let setup = Setup {
        flags: &["--logd", "/no/such/logd"],
        ..Setup::default()
    };
    let script = "head -c 300000 /dev/zero; echo; echo through; exec sleep 1000";
    let init = Init::start_with("stand-in", &sh("a", script, ""), &setup);
    init.until_logged("a", "through");
    assert!(
        init.console().contains("run /no/such/logd: No such file"),
        "{}",
        init.console()
    );
}

#[test]
fn refusals_are_json_where_that_was_asked_for() {
    let init = Init::start("json", &sh("a", "exec sleep 1000", ""));
    let output = init.ctl(&["status", "nobody", "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["result"], "no-such-service");
    assert_eq!(answer["error"], "nobody: no such service");
}

#[test]
fn a_socket_that_could_not_be_made_is_made_once_there_is_room() {
    let init = Init::start("cleared", &sh("a", "exec sleep 1000", ""));
    init.until_state("a", "running");
    fs::remove_dir_all(init.run_dir().join("service")).unwrap();
    fs::remove_file(init.run_dir().join("control.sock")).unwrap();
    init.signal(Signal::SIGHUP);
    init.until("a new socket", || {
        init.run_dir().join("control.sock").exists().then_some(())
    });
    init.ctl_ok(&["restart", "a", "--no-wait"]);
    init.until_state("a", "running");
}

#[test]
fn a_console_that_nobody_reads_holds_nobody_up() {
    let odd = "import os, pty, sys\n\
               ours, its = pty.openpty()\n\
               os.set_inheritable(ours, True)\n\
               os.dup2(its, 2)\n\
               os.execvp(sys.argv[1], sys.argv[1:])";
    let setup = Setup {
        before: &["python3", "-c", odd],
        ..Setup::default()
    };
    let fails = "restart-delay = '1ms'\nrestart-delay-max = '1ms'";
    let services = sh("a", "exit 1", fails) + &sh("b", "exec sleep 1000", "");
    let mut init = Init::start_with("console", &services, &setup);
    init.until("lines enough to fill a terminal", || {
        (init.status("a")["restarts"].as_u64() > Some(100)).then_some(())
    });
    init.ctl_ok(&["restart", "b"]);
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
}

#[test]
fn init_takes_precedence_and_hands_none_on() {
    // On its way to its program the service is served as init is, and init takes that back once it is there.
    let script =
        "while chrt -p $$ | grep -q FIFO; do sleep 0.05; done; chrt -p $$; nice; exec sleep 1000";
    let init = Init::start("precedence", &sh("a", script, ""));
    init.until("two lines and a nice value", || {
        (init.log("a").len() == 3).then_some(())
    });
    let log = init.log("a");
    assert!(log[0].ends_with("policy: SCHED_OTHER"), "{log:?}");
    assert_eq!(log[2], "0", "{log:?}");
    let policy = std::process::Command::new("chrt")
        .args(["-p", &init.pid().to_string()])
        .output()
        .unwrap();
    let policy = String::from_utf8_lossy(&policy.stdout).into_owned();
    assert!(policy.contains("SCHED_FIFO"), "{policy}");
}

/// A limit of real-time priorities lets init give one, and only the capability lets it take one back.
///
/// Where not even root may raise that limit, init may not give any either, and what follows holds all the same.
#[test]
fn who_cannot_take_precedence_back_takes_none() {
    let raise = "prlimit --pid $$ --rtprio=10 2>/dev/null; exec \"$@\"";
    let without = ["setpriv", "--bounding-set=-sys_nice"];
    let before = [&["nice", "-n", "-3", "sh", "-c", raise, "sh"], &without[..]].concat();
    let setup = Setup {
        before: &before,
        ..Setup::default()
    };
    let script = "sleep 0.2; chrt -p $$; nice; exec sleep 1000";
    let init = Init::start_with("no-precedence", &sh("a", script, ""), &setup);
    init.until("three lines", || (init.log("a").len() == 3).then_some(()));
    let log = init.log("a");
    assert!(log[0].ends_with("policy: SCHED_OTHER"), "{log:?}");
    let mut nice = std::process::Command::new("nice");
    let as_started = nice.args(["-n", "-3", "nice"]).output().unwrap();
    let as_started = String::from_utf8_lossy(&as_started.stdout).into_owned();
    assert_eq!(log[2], as_started.trim(), "{log:?}");
}

#[test]
fn a_user_by_name_has_the_groups_of_the_machines_tables() {
    let tables = "mount -t tmpfs none /etc\n\
                  echo 'web:x:1234:4321::/:/bin/sh' > /etc/passwd\n\
                  printf 'web:x:4321:\\nvideo:x:44:web\\n' > /etc/group";
    let setup = Setup {
        prepare: tables,
        ..Setup::default()
    };
    let services = "[[service]]\nname = 'a'\nuser = 'web'\ngroups = [77]\n\
                    command = ['/bin/sh', '-c', 'id -u; id -g; id -G; exec sleep 1000']\n";
    let init = Init::start_with("groups", services, &setup);
    init.until_logged("a", "4321 44 77");
    assert_eq!(init.log("a"), ["1234", "4321", "4321 44 77"]);
}

#[test]
fn no_dev_no_proc_and_no_sys_is_enough() {
    let setup = Setup {
        prepare: "for place in /dev /sys /proc; do mount -t tmpfs none $place; done",
        ..Setup::default()
    };
    let script = "cat; echo read nothing; exec sleep 1000";
    let services = sh("a", script, "restart-delay = '10ms'");
    let mut init = Init::start_with("scratch", &services, &setup);
    init.until_logged("a", "read nothing");
    for (run, words) in [(2, &["restart", "a"][..]), (3, &["signal", "a", "KILL"])] {
        init.ctl_ok(words);
        // One that is killed before it prints says nothing.
        init.until("its next run", || {
            (init.log("a").len() == run).then_some(())
        });
    }
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
}

#[test]
fn tasks_are_limited_also_where_no_control_group_can() {
    let more = "tasks-max = 20\nrestart = 'never'";
    let script = "n=0; while [ $n -lt 100 ]; do sleep 1000 & n=$((n+1)); echo $n; done; echo all";
    let own =
        format!("[[service]]\nname = 'a'\ncommand = ['/bin/sh', '-c', '''{script}''']\n{more}\n");
    let init = Init::start("tasks", &own);
    init.until("its end", || (init.state("a") == "stopped").then_some(()));
    init.until_logged("a", "15");
    let log = init.log("a");
    assert!(!log.contains(&"20".to_owned()), "{log:?}");
    let unfenced = init.status("a")["unfenced"].to_string();
    assert!(!unfenced.contains("pids.max"), "{unfenced}");
}

#[test]
fn paths_may_start_where_init_was_started() {
    let place = std::env::temp_dir().join(format!("in-relative-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    let script = "say(b'READY=1')\nprint(os.environ['HOME'])\ntime.sleep(1000)";
    common::write(
        &place.join("table.toml"),
        &python("a", script, "notify = true"),
    );
    let init = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_init"));
        command.args(words).current_dir(&place);
        command
    };
    let words = "--no-boot --services table.toml --run-dir run --home-dir home";
    let words: Vec<&str> = words.split(' ').collect();
    let mut running = init(&words)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ask = |words: &[&str]| {
        let output = init(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let deadline = Instant::now() + common::PATIENCE;
    let (mut state, mut log) = (String::new(), String::new());
    while Instant::now() < deadline && !(state.contains("running") && log.contains("home/a")) {
        std::thread::sleep(Duration::from_millis(20));
        state = ask(&["ctl", "--run-dir", "run", "status", "a"]);
        log = ask(&["ctl", "--run-dir", "run", "logs", "a"]);
    }
    ask(&["ctl", "--run-dir", "run", "poweroff"]);
    let ended = running.wait().unwrap();
    fs::remove_dir_all(&place).unwrap();
    assert!(state.contains("running"), "{state}");
    assert!(
        log.contains(&place.join("home/a").display().to_string()),
        "{log}"
    );
    assert!(ended.success());
}

/// A child that speaks and ends is a zombie as long as the service does not wait for it.
#[test]
fn who_has_ended_and_is_not_waited_for_is_believed() {
    let script = "child = os.fork()\n\
                  if child == 0:\n\
                  \x20   while not os.path.exists('go'): time.sleep(0.01)\n\
                  \x20   say(b'READY=1')\n\
                  \x20   os._exit(0)\n\
                  print(child)\n\
                  time.sleep(1000)";
    let folder = std::env::temp_dir().join(format!("in-zombie-{}", std::process::id()));
    let place = format!("notify = true\nworking-directory = '{}'", folder.display());
    let init = Init::start("zombie", &python("a", script, &place));
    let child = init.until("the child", || init.log("a").pop());
    // Stopped, init finds the word when its speaker has ended already.
    init.signal(Signal::SIGSTOP);
    fs::write(init.folder.join("go"), "").unwrap();
    init.until("its end", || {
        let stat = format!("/proc/{}/root/proc/{child}/stat", init.pid());
        let stat = fs::read_to_string(stat).unwrap_or_default();
        stat.contains(") Z ").then_some(())
    });
    init.signal(Signal::SIGCONT);
    init.until_state("a", "running");
}

/// In a namespace without a `/proc` of its own, the numbers there are those of strangers: of the kernel's threads, for
/// one, whose parent has the number of the namespace's first child.
#[test]
fn the_proc_of_another_namespace_is_not_believed() {
    // The next process, which is logd, gets the lowest number that there is; a kernel without checkpoints (proc(5),
    // ns_last_pid) has no such file, and there the number that comes is tried.
    let setup = Setup {
        prepare: "umount -a -t cgroup2; umount /proc; echo 1 > /proc/sys/kernel/ns_last_pid || true",
        ..Setup::default()
    };
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let tables: String = names
        .iter()
        .map(|name| sh(name, "exec sleep 1000", ""))
        .collect();
    let mut init = Init::start_with("foreign-proc", &tables, &setup);
    let pids = || -> Vec<i64> {
        let pid = |name: &String| init.until_state(name, "running")["pid"].as_i64().unwrap();
        names.iter().map(pid).collect()
    };
    let before = pids();
    let logd = init.until_state("logd", "running")["pid"].clone();
    init.ctl_ok(&["signal", "logd", "KILL"]);
    init.until("a new logd", || {
        let status = init.status("logd");
        (status["state"] == "running" && status["pid"] != logd).then_some(())
    });
    assert_eq!(pids(), before);
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
}

#[test]
fn a_route_is_waited_for() {
    let setup = Setup {
        before: &["unshare", "--net"],
        ..Setup::default()
    };
    let services = sh("a", "exec sleep 1000", "wait-for = ['net-route']");
    let init = Init::start_with("route", &services, &setup);
    assert_eq!(
        init.until_state("a", "waiting")["waiting_for"][0],
        "net-route"
    );
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(init.state("a"), "waiting");
    let made = std::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", init.pid()))
        .args([
            "sh",
            "-c",
            "ip link set lo up && ip address add 192.0.2.1/24 dev lo && ip route add default dev lo",
        ])
        .status();
    assert!(made.unwrap().success(), "apt-get install iproute2");
    init.until_state("a", "running");
}

/// A folder of groups that is none any more: what cannot be joined is done without.
#[test]
fn a_group_that_cannot_be_joined_is_told_and_the_service_runs() {
    let services = sh("a", "exec sleep 1000", "start = 'manual'");
    let init = Init::start("no-join", &services);
    init.until_state("logd", "running");
    if init.console().contains("no control groups") {
        return;
    }
    let run = fs::metadata(init.folder.join("run")).unwrap();
    let name = format!("gokrazy-{:x}-{:x}", run.dev(), run.ino());
    let script =
        format!("mount -t tmpfs in-no-join $(find /sys/fs/cgroup -name {name} -print -quit)");
    let covered = std::process::Command::new("nsenter")
        .arg(format!("--mount=/proc/{}/ns/mnt", init.pid()))
        .args(["sh", "-c", &script])
        .status();
    assert!(covered.unwrap().success());
    init.ctl_ok(&["start", "a"]);
    let status = init.until("what it lacks", || {
        let status = init.status("a");
        status["unfenced"].is_string().then_some(status)
    });
    let unfenced = status["unfenced"].as_str().unwrap();
    assert!(
        unfenced.contains("control group (join") && status["state"] == "running",
        "{status}"
    );
    init.ctl_ok(&["stop", "a"]);
    assert_eq!(init.state("a"), "stopped");
}
