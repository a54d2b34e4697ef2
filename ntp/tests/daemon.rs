//! The real binary against chrony and against servers that lie, with its clock calls taken by a stand-in.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test reads clocks, writes files as a stranger would, and is to fail where it cannot go on; the harness \
              serves other tests too"
)]

#[path = "common/harness.rs"]
mod harness;

use std::collections::HashSet;
use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use harness::{Daemon, Server, Setup, reply, until};

/// A chrony that serves the machine's time and never sets it.
struct Chrony {
    child: Child,
    address: String,
}

impl Chrony {
    fn start(setup: &Setup) -> Self {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let pidfile = setup.folder.join("chronyd.pid");
        let config = setup.folder.join("chrony.conf");
        let text = format!(
            "local stratum 3\nallow\nport {port}\ncmdport 0\nbindaddress 127.0.0.1\npidfile {}\n",
            pidfile.display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("chronyd")
            .args(["-x", "-d", "-u", "root", "-f"])
            .arg(&config)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start chronyd: {error}: `cargo xtask setup` gets it, and `cargo xtask test process` finds it"));
        Self {
            child,
            address: format!("127.0.0.1:{port}"),
        }
    }
}

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

#[test]
fn chrony_sets_the_clock_once_and_all_is_kept() {
    let setup = Setup::new("chrony").ahead(-1e6);
    let chrony = Chrony::start(&setup);
    let mut daemon = setup.start(&["--server", &chrony.address]);
    daemon.wait_synchronised();
    until("burst", 15, || daemon.corrections("slew").len() >= 2);
    assert_eq!(daemon.corrections("step").len(), 1);
    assert!(daemon.ahead().abs() < 0.01, "{}", daemon.ahead());
    let state = daemon.state();
    assert_eq!(
        (state.source, state.stratum),
        (Some(chrony.address.clone()), Some(3))
    );
    assert!(state.error_bound_ns.unwrap() < 50_000_000);
    assert!(daemon.end().success());
    let saved: i64 = daemon.read("state/time").trim().parse().unwrap();
    assert!((saved - state.updated.unwrap()).abs() < 30);
}

#[test]
fn requests_tell_nothing_and_cannot_be_guessed() {
    let server = Server::start(|_, sound| vec![sound.to_vec()]);
    let daemon = Setup::new("requests").start(&["--server", &server.address]);
    until("four requests", 20, || server.requests().len() >= 4);
    thread::sleep(Duration::from_secs(3));
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "a burst is four");
    let mut nonces = HashSet::new();
    let mut ports = HashSet::new();
    for request in &requests {
        assert_eq!(request.bytes.len(), 48);
        assert_eq!(request.bytes[0], 0x23);
        assert!(request.bytes[1..40].iter().all(|byte| *byte == 0));
        nonces.insert(request.bytes[40..].to_vec());
        ports.insert(request.from.port());
    }
    assert_eq!(nonces.len(), 4);
    assert!(ports.len() >= 3 && !ports.contains(&123));
    for pair in requests.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(
            gap > Duration::from_millis(1_900) && gap < Duration::from_secs(8),
            "{gap:?}"
        );
    }
    assert!(daemon.state().synchronised);
}

#[test]
fn no_bad_reply_moves_the_clock() {
    type Change = fn(&mut [u8; 48]);
    let changes: [(&str, Change); 14] = [
        ("wrong origin", |b| b[24] ^= 1),
        ("no origin", |b| b[24..32].fill(0)),
        ("mode 3", |b| b[0] = 0x23),
        ("mode 5", |b| b[0] = 0x25),
        ("version 3", |b| b[0] = 0x1c),
        ("leap 3", |b| b[0] = 0xe4),
        ("stratum 0", |b| b[1] = 0),
        ("stratum 16", |b| b[1] = 16),
        ("root delay", |b| b[4] = 1),
        ("root dispersion", |b| b[8] = 1),
        ("no transmit", |b| b[40..48].fill(0)),
        ("no receive", |b| b[32..40].fill(0)),
        ("sent before received", |b| b[35] -= 9),
        ("far future", |b| {
            b[32] = b[32].wrapping_add(0x40);
            b[40] = b[40].wrapping_add(0x40);
        }),
    ];
    let mut runs: Vec<(String, Server, Daemon)> = Vec::new();
    for (name, change) in changes {
        let server = Server::start(move |request, _| {
            let mut bytes = reply(&request.bytes, 100.0);
            change(&mut bytes);
            vec![bytes.to_vec(), bytes.to_vec()]
        });
        let daemon = Setup::new(&name.replace(' ', "-")).start(&["--server", &server.address]);
        runs.push((name.to_owned(), server, daemon));
    }
    let truncated =
        Server::start(|request, _| vec![reply(&request.bytes, 100.0)[..47].to_vec(), Vec::new()]);
    let daemon = Setup::new("truncated").start(&["--server", &truncated.address]);
    runs.push(("truncated".to_owned(), truncated, daemon));
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = Server::start(move |request, _| {
        let _ = elsewhere.send_to(&reply(&request.bytes, 100.0), request.from);
        Vec::new()
    });
    let daemon = Setup::new("elsewhere").start(&["--server", &other.address]);
    runs.push(("from elsewhere".to_owned(), other, daemon));
    for (name, server, daemon) in &mut runs {
        until(name, 30, || !server.requests().is_empty());
        thread::sleep(Duration::from_millis(300));
        assert!(daemon.corrections("step").is_empty(), "{name}");
        assert!(daemon.corrections("slew").is_empty(), "{name}");
        assert!(!daemon.state().synchronised, "{name}");
        assert!(daemon.end().success(), "{name}");
    }
}

#[test]
fn a_forgery_before_the_true_reply_is_passed_over() {
    let server = Server::start(|request, sound| {
        let mut forged = reply(&request.bytes, 5_000.0);
        forged[24] ^= 0x55;
        let mut kiss = forged;
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"DENY");
        vec![
            forged.to_vec(),
            kiss.to_vec(),
            sound.to_vec(),
            reply(&request.bytes, 7_000.0).to_vec(),
        ]
    });
    let daemon = Setup::new("forgery")
        .ahead(-40.0)
        .start(&["--server", &server.address]);
    daemon.wait_synchronised();
    until("burst", 20, || server.requests().len() >= 4);
    assert_eq!(daemon.corrections("step").len(), 1);
    assert!(daemon.ahead().abs() < 0.1, "{}", daemon.ahead());
}

#[test]
fn liars_in_the_minority_are_outvoted_and_half_decides_nothing() {
    let honest = [
        Server::lying(0.0),
        Server::lying(0.001),
        Server::lying(-0.001),
    ];
    let liar = Server::lying(9_999.0);
    let all = [
        &liar.address,
        &honest[0].address,
        &honest[1].address,
        &honest[2].address,
    ];
    let args: Vec<&str> = all
        .iter()
        .flat_map(|address| ["--server", address.as_str()])
        .collect();
    let daemon = Setup::new("minority").ahead(-77.0).start(&args);
    daemon.wait_synchronised();
    assert_eq!(daemon.corrections("step").len(), 1);
    assert!(daemon.ahead().abs() < 0.1, "{}", daemon.ahead());
    until("falseticker", 10, || daemon.said("falseticker") == 1);

    let two = Setup::new("half")
        .ahead(-77.0)
        .start(&[&liar.address, &honest[0].address]);
    until("no majority", 20, || two.said("no majority") == 1);
    assert!(two.corrections("step").is_empty() && !two.state().synchronised);
}

#[test]
fn answers_that_come_together_cause_one_step() {
    static HELD: AtomicBool = AtomicBool::new(true);
    let together = || {
        Server::start(|request, _| {
            until("release", 20, || !HELD.load(Ordering::SeqCst));
            vec![reply(&request.bytes, 0.0).to_vec()]
        })
    };
    let servers = [together(), together(), together(), together()];
    let args: Vec<&str> = servers
        .iter()
        .map(|server| server.address.as_str())
        .collect();
    let daemon = Setup::new("together").ahead(-1_000.0).start(&args);
    until("requests", 10, || {
        servers.iter().all(|server| !server.requests().is_empty())
    });
    // Stopped while all answers come, it reads them at one wake-up.
    daemon.signal(Signal::SIGSTOP);
    HELD.store(false, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(200));
    daemon.signal(Signal::SIGCONT);
    daemon.wait_synchronised();
    until("bursts", 20, || {
        servers.iter().all(|server| server.requests().len() == 4)
    });
    assert_eq!(daemon.corrections("step").len(), 1);
    assert!(daemon.ahead().abs() < 0.2, "{}", daemon.ahead());
    assert_eq!(daemon.said("falseticker"), 0);
}

#[test]
fn small_offsets_are_slewed_in_their_direction() {
    for (name, ahead) in [("slew-down", 0.06), ("slew-up", -0.06)] {
        let server = Server::lying(0.0);
        let daemon = Setup::new(name)
            .ahead(ahead)
            .start(&["--server", &server.address]);
        daemon.wait_synchronised();
        assert!(daemon.corrections("step").is_empty());
        let slew = daemon.corrections("slew")[0];
        assert!((slew + ahead).abs() < 0.01, "{slew}");
        let told = daemon.told_the_kernel();
        assert!(!told.is_empty());
        for (status, bound) in told {
            // STA_PLL and STA_FREQHOLD, and neither STA_UNSYNC nor a leap second.
            assert_eq!(status, 0x81);
            // What is left to slew is a part of it.
            assert!((50_000..1_000_000).contains(&bound), "{bound} µs");
        }
    }
}

#[test]
fn without_the_right_to_set_the_clock_it_says_so_once_and_claims_nothing() {
    let server = Server::lying(0.0);
    let mut daemon = Setup::new("deny")
        .ahead(-500.0)
        .powerless()
        .start(&["--server", &server.address]);
    until("burst", 20, || server.requests().len() >= 4);
    until("measurement", 5, || daemon.state().offset_ns.is_some());
    assert_eq!(daemon.said("cannot correct the clock"), 1);
    let state = daemon.state();
    assert!(
        !state.synchronised && (state.offset_ns.unwrap() - 500_000_000_000).abs() < 100_000_000
    );
    assert!(daemon.end().success());
}

#[test]
fn the_clock_starts_at_the_saved_time_which_proves_nothing() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let setup = Setup::new("saved")
        .ahead(-(now as f64) + 1_000.0)
        .file("state/time", b"1795000000\n");
    let mut daemon = setup.start(&["--server", "127.0.0.1:1"]);
    until("the saved time", 10, || {
        daemon.corrections("step").len() == 1
    });
    until("state", 10, || daemon.folder.join("run/clock").exists());
    assert!((daemon.ahead() + now as f64 - 1_795_000_000.0).abs() < 30.0);
    assert!(!daemon.state().synchronised);
    assert!(daemon.end().success());
    let saved: i64 = daemon.read("state/time").trim().parse().unwrap();
    assert!((1_795_000_000..1_795_000_100).contains(&saved), "{saved}");
}

#[test]
fn the_hardware_clock_is_read_at_the_start_and_set_once_the_time_is_known() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let server = Server::lying(0.0);
    let start = |name: &str, used| {
        Setup::new(name)
            .ahead(1_000.0 - now as f64)
            .hardware_clock(now - 50_000, used)
            .start(&["--server", &server.address])
    };
    let daemon = start("rtc", true);
    daemon.wait_synchronised();
    until("the hardware clock", 10, || {
        daemon.corrections("rtc-set").len() == 1
    });
    let steps = daemon.corrections("step");
    assert!((steps[1] - 50_000.0).abs() < 60.0, "{steps:?}");
    assert!((daemon.corrections("rtc-set")[0] - now as f64).abs() < 60.0);
    let text = daemon.read("corrections");
    let kinds: Vec<&str> = text.lines().flat_map(|l| l.split(' ').next()).collect();
    assert_eq!(kinds[..5], ["rtc-read", "step", "step", "slew", "rtc-set"]);

    let daemon = start("no-rtc", false);
    daemon.wait_synchronised();
    assert!(daemon.corrections("step")[1] > 50_060.0);
    assert!(!daemon.read("corrections").contains("rtc"));
}

#[test]
fn a_hardware_clock_that_comes_late_is_set() {
    let server = Server::lying(0.0);
    let setup = Setup::new("late-rtc").hardware_clock(1_795_000_000, true);
    let rtc = setup.folder.join("rtc");
    fs::remove_file(&rtc).unwrap();
    let daemon = setup.start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert!(daemon.corrections("rtc-set").is_empty());
    fs::write(rtc, b"").unwrap();
    // Otherwise it looks every ten minutes.
    daemon.signal(Signal::SIGHUP);
    until("the hardware clock", 20, || {
        daemon.corrections("rtc-set").len() == 1
    });
}

#[test]
fn a_clock_that_someone_else_moves_is_brought_back() {
    let servers = [(); 3].map(|()| Server::lying(0.0));
    let args: Vec<&str> = servers
        .iter()
        .map(|server| server.address.as_str())
        .collect();
    let daemon = Setup::new("moved").ahead(-40.0).start(&args);
    daemon.wait_synchronised();
    until("bursts", 30, || {
        servers.iter().all(|server| server.requests().len() >= 4)
    });
    daemon.move_clock(300.0);
    // Otherwise it notices at its next poll.
    daemon.signal(Signal::SIGHUP);
    until("notice", 20, || daemon.said("moved by +300") == 1);
    until("the second step", 30, || {
        daemon.corrections("step").len() == 2
    });
    daemon.wait_synchronised();
    assert!(daemon.ahead().abs() < 0.1, "{}", daemon.ahead());
    assert_eq!(daemon.said("moved by"), 1);
}

#[test]
fn a_machine_that_wakes_us_late_does_not_put_the_clock_off() {
    let daemon: Arc<OnceLock<Pid>> = Arc::default();
    let held = daemon.clone();
    let server = Server::start(move |request, _| {
        until("the daemon", 20, || held.get().is_some());
        let pid = *held.get().unwrap();
        kill(pid, Signal::SIGSTOP).unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            let _ = kill(pid, Signal::SIGCONT);
        });
        vec![reply(&request.bytes, 0.0).to_vec()]
    });
    let late = Setup::new("late-wake")
        .ahead(-40.0)
        .start(&["--server", &server.address]);
    daemon.set(late.pid()).unwrap();
    late.wait_synchronised();
    // Taken for the way back, a second would be half a second of error.
    assert!(late.ahead().abs() < 0.2, "{}", late.ahead());
}

#[test]
fn garbage_and_unwritable_folders_stop_nothing() {
    let server = Server::lying(0.0);
    let setup = Setup::new("garbage")
        .file("state/time", &[0xff; 5_000])
        .file("state/drift", b"NaN nonsense")
        .file("run/clock", b"synchronised=yes\nsynchronised=yes\n\0")
        .file("run/net/eth0", b"\xff\xfe");
    let mut daemon = setup.start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert!(daemon.end().success());
    assert!(daemon.read("state/time").trim().parse::<i64>().is_ok());

    let setup = Setup::new("unwritable").file("state", b"a file, not a folder");
    let mut daemon = setup.start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert!(daemon.end().success());
    assert_eq!(daemon.said("cannot save time and drift"), 1);
}

#[test]
fn a_restart_in_the_same_boot_refuses_what_a_first_start_takes() {
    let setup = Setup::new("restart");
    let server = Server::lying(0.0);
    let mut daemon = setup.start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert!(daemon.end().success());
    let copy = Setup::new("restart-again").file("run/clock", daemon.read("run/clock").as_bytes());
    let liar = Server::lying(5_000.0);
    let daemon = copy.start(&["--server", &liar.address]);
    until("refusal", 20, || daemon.said("too far") == 1);
    assert!(daemon.corrections("step").is_empty() && !daemon.state().synchronised);
}

#[test]
fn sighup_asks_all_anew_and_ends_nothing() {
    let server = Server::lying(0.0);
    let mut daemon = Setup::new("hangup").start(&["--server", &server.address]);
    until("the burst", 30, || server.requests().len() == 4);
    daemon.signal(Signal::SIGHUP);
    until("another burst", 30, || server.requests().len() == 8);
    assert!(daemon.state().synchronised);
    assert!(daemon.end().success());
}

#[test]
fn a_second_daemon_for_the_same_folder_ends_and_says_why() {
    let server = Server::lying(0.0);
    let setup = Setup::new("second");
    let mut first = setup.start(&["--server", &server.address]);
    first.wait_synchronised();
    let mut second = setup.start(&["--server", &server.address]);
    assert_eq!(second.wait().code(), Some(1));
    until("the reason", 10, || {
        second.said("in use by another ntp") == 1
    });
    assert!(first.state().synchronised);
    assert!(first.end().success());
}

#[test]
fn a_first_run_leaves_a_drift_file_that_admits_how_little_it_knows() {
    let server = Server::lying(0.0);
    let mut daemon = Setup::new("little").start(&["--server", &server.address]);
    daemon.wait_synchronised();
    // Whose power is pulled soon has saved it all the same.
    until("the saved time", 20, || {
        daemon.read("state/time").trim().parse::<i64>().is_ok()
    });
    assert!(daemon.end().success());
    let text = daemon.read("state/drift");
    let numbers: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    assert!(
        numbers.len() == 2 && numbers[0].abs() < 50.0 && numbers[1] > 10.0,
        "{text}"
    );
}

#[test]
fn it_runs_as_its_own_user() {
    let server = Server::lying(0.0);
    let mut daemon = Setup::new("user")
        .user(904)
        .ahead(-9.0)
        .start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert!(daemon.end().success());
}

#[test]
fn the_drift_file_is_in_force_before_anyone_is_asked() {
    let server = Server::start(|_, _| Vec::new());
    let setup = Setup::new("drift").file("state/drift", b"-12.5\n");
    let mut daemon = setup.start(&["--server", &server.address]);
    until("the frequency", 10, || {
        daemon.corrections("freq") == [-12.5]
    });
    assert!(daemon.end().success());
    assert_eq!(daemon.read("state/drift"), "-12.5\n");
}

#[test]
fn the_saved_time_moves_forward_only() {
    let server = Server::lying(-50.0);
    let ahead = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3_000;
    let setup = Setup::new("forward").file("state/time", format!("{ahead}\n").as_bytes());
    let mut daemon = setup.start(&["--server", &server.address]);
    daemon.wait_synchronised();
    // The saved time moved the clock forward, the server moved it back; the file stays.
    let steps = daemon.corrections("step");
    assert!(
        steps.len() == 2 && steps[0] > 2_900.0 && steps[1] < -2_900.0,
        "{steps:?}"
    );
    assert!(daemon.end().success());
    assert_eq!(daemon.read("state/time").trim(), ahead.to_string());
}

#[test]
fn replies_that_come_late_count_for_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let late = socket.try_clone().unwrap();
    let server = Server::on(socket, move |request, sound| {
        let (late, to) = (late.try_clone().unwrap(), request.from);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(3_500));
            let _ = late.send_to(&sound, to);
        });
        Vec::new()
    });
    let daemon = Setup::new("late")
        .ahead(-70.0)
        .start(&["--server", &server.address]);
    until("burst", 20, || server.requests().len() >= 4);
    thread::sleep(Duration::from_secs(1));
    assert!(daemon.corrections("step").is_empty() && !daemon.state().synchronised);
}

#[test]
fn a_step_that_the_kernel_only_claims_to_have_done_is_not_repeated() {
    let server = Server::lying(0.0);
    let setup = Setup::new("deaf").ahead(-70.0).deaf();
    let daemon = setup.start(&["--server", &server.address]);
    until("burst", 20, || daemon.corrections("slew").len() >= 3);
    let steps = daemon.corrections("step");
    assert!(
        steps.len() == 1 && (steps[0] - 70.0).abs() < 1.0,
        "{steps:?}"
    );
    assert_eq!(daemon.said("granted the step and did not do it"), 1);
    assert!(daemon.state().offset_ns.unwrap().abs() < 100_000_000);
}

#[test]
fn ipv6_works_as_well() {
    let socket = UdpSocket::bind("[::1]:0").unwrap_or_else(|error| panic!("bind ::1: {error}"));
    let server = Server::on(socket, |_, sound| vec![sound.to_vec()]);
    let daemon = Setup::new("ipv6")
        .ahead(-70.0)
        .start(&["--server", &server.address]);
    daemon.wait_synchronised();
    assert_eq!(daemon.state().source.as_ref(), Some(&server.address));
}

#[test]
fn deny_ends_and_rate_calms_the_burst() {
    for code in [*b"DENY", *b"RSTR", *b"RATE"] {
        let server = Server::start(move |_, mut sound| {
            sound[0] = 0xe4;
            sound[1] = 0;
            sound[12..16].copy_from_slice(&code);
            vec![sound.to_vec()]
        });
        let name = String::from_utf8_lossy(&code).to_string();
        let daemon = Setup::new(&name).start(&["--server", &server.address]);
        until("a request", 20, || !server.requests().is_empty());
        thread::sleep(Duration::from_secs(5));
        assert_eq!(server.requests().len(), 1, "{name}");
        assert!(daemon.corrections("step").is_empty());
    }
}
