//! `ntp --query` and bad command lines, as a user meets them; and rsntp beside our own reading.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test reads clocks and is to fail where it cannot go on; the harness serves other tests too"
)]

#[path = "common/harness.rs"]
mod harness;

use std::process::{Command, Output};
use std::time::Duration;

use harness::{Server, clock_library, reply};
use rsntp::{Config, SntpClient};

fn ntp(args: &[&str]) -> Output {
    let folder = std::env::temp_dir().join(format!("nt-query-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_ntp"))
        .args(args)
        .env("LD_PRELOAD", clock_library())
        .env("CLOCK_LOG", &folder)
        .output()
        .unwrap();
    assert!(!folder.exists(), "a query touches no clock");
    output
}

fn field(output: &Output, key: &str) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout).to_string();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}=")))
        .map(str::to_owned);
    value
        .unwrap_or_else(|| panic!("no {key} in {text}"))
        .parse()
        .unwrap()
}

#[test]
fn a_query_prints_offset_and_delay() {
    let server = Server::lying(12.5);
    let output = ntp(&["--query", &server.address]);
    assert!(output.status.success(), "{output:?}");
    assert!((field(&output, "offset") - 12.5).abs() < 0.05);
    assert!((0.0..0.5).contains(&field(&output, "delay")));
    let port = server.address.rsplit_once(':').unwrap().1;
    let named = ntp(&["--query", &format!("localhost:{port}")]);
    assert!(named.status.success(), "{named:?}");
}

#[test]
fn a_query_that_fails_says_why_and_exits_1() {
    let silent = Server::start(|_, _| Vec::new());
    let unsynchronised = Server::start(|_, mut sound| {
        sound[0] = 0xe4;
        vec![sound.to_vec()]
    });
    for (server, reason) in [
        (silent.address.as_str(), "no answer within 2 s"),
        (unsynchronised.address.as_str(), "not synchronised"),
        ("127.0.0.1:1", "nobody listens there"),
    ] {
        let output = ntp(&["--query", server]);
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains(server), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_query_that_is_told_to_go_away_asks_once() {
    let unwilling = Server::start(|_, mut sound| {
        sound[1] = 0;
        sound[12..16].copy_from_slice(b"DENY");
        vec![sound.to_vec()]
    });
    let output = ntp(&["--query", &unwilling.address]);
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("kiss of death"), "{said}");
    assert_eq!(unwilling.requests().len(), 1);
}

#[test]
fn bad_flags_exit_2_before_anything_is_touched() {
    for args in [
        &["--server", "host:0"][..],
        &["--server", ""],
        &["--frobnicate"],
        &["--query", "a", "--server", "b"],
        &["--query", "a", "b"],
        &["--no-rtc", "--rtc", "/dev/rtc1"],
        &["--state-dir"],
        &["1.2.3"],
    ] {
        let output = ntp(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    let help = ntp(&["--help"]);
    assert!(help.status.success());
    for flag in [
        "--server",
        "--state-dir",
        "--run-dir",
        "--rtc",
        "--no-rtc",
        "--no-dhcp",
        "--query",
    ] {
        assert!(
            String::from_utf8_lossy(&help.stdout).contains(flag),
            "{flag}"
        );
    }
}

fn rsntp(server: &Server) -> Result<rsntp::SynchronizationResult, rsntp::SynchronizationError> {
    let config = Config::default().timeout(Duration::from_secs(2));
    SntpClient::with_config(config).synchronize(server.address.as_str())
}

#[test]
fn rsntp_and_we_read_the_same_from_a_sound_reply() {
    let server = Server::lying(-3.25);
    let theirs = rsntp(&server).unwrap();
    let ours = ntp(&["--query", &server.address]);
    assert!((theirs.clock_offset().as_secs_f64() - field(&ours, "offset")).abs() < 0.02);
    assert_eq!(f64::from(theirs.stratum()), field(&ours, "stratum"));
}

/// If one of these fails because rsntp has learned the check, `docs/decisions/ntp-wire.md` is to be read again.
#[test]
fn what_rsntp_cannot_check_is_why_we_read_packets() {
    let broadcast = Server::start(|_, mut sound| {
        sound[0] = 0x25;
        vec![sound.to_vec()]
    });
    let far = Server::start(|_, mut sound| {
        sound[8] = 0xff;
        vec![sound.to_vec()]
    });
    for server in [&broadcast, &far] {
        assert!(rsntp(server).is_ok());
        assert!(!ntp(&["--query", &server.address]).status.success());
    }
    let forged = Server::start(|request, sound| {
        let mut forgery = reply(&request.bytes, 99.0);
        forgery[31] ^= 1;
        vec![forgery.to_vec(), sound.to_vec()]
    });
    assert!(rsntp(&forged).is_err());
    assert!(field(&ntp(&["--query", &forged.address]), "offset").abs() < 0.05);
    // Its transmit timestamp is the clock itself, where ours is a random number.
    let mut seconds = [0; 4];
    seconds.copy_from_slice(&forged.requests()[0].bytes[40..44]);
    let sent = i64::from(u32::from_be_bytes(seconds)) - 2_208_988_800;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs().cast_signed() - sent).abs() < 60);
}
