//! Flags, exit codes and messages for people.

use std::process::Command;

use crate::common::Net;

#[track_caller]
fn check(flags: &[&str], code: i32, words: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_dhcp"))
        .args(flags)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {text}");
    assert!(text.contains(words), "{flags:?}: {text}");
}

#[test]
fn help_names_every_flag_and_so_does_the_manual() {
    let output = Command::new(env!("CARGO_BIN_EXE_dhcp"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let manual = include_str!("../../../docs/man/dhcp.8.md");
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    let flags: Vec<&str> = flags
        .map(|word| word.trim_end_matches([',', '.', ':']))
        .collect();
    assert!(flags.len() > 15);
    for flag in flags
        .iter()
        .filter(|flag| !["--help", "--version"].contains(flag))
    {
        assert!(
            manual.contains(&format!("`{flag}`")),
            "the manual lacks {flag}"
        );
    }
}

#[test]
fn bad_flags_are_refused_with_2() {
    check(&["--what"], 2, "--what");
    check(&["--conflict-check", "maybe"], 2, "full, fast, off");
    check(&["--once", "--test"], 2, "cannot be used with");
    check(&["--interface", "a/b"], 2, "not an interface name");
    check(&["--hostname", "a b"], 2, "not a host name");
    check(
        &["--anonymous", "--hostname", "x"],
        2,
        "cannot be used with",
    );
    check(&["--metric", "many"], 2, "--metric");
    check(&["extra"], 2, "extra");
}

#[test]
fn without_privileges_it_says_what_it_needs() {
    let net = Net::new();
    let mut command = net.in_client("setpriv");
    command.args([
        "--bounding-set",
        "-all",
        "--inh-caps",
        "-all",
        "--reuid",
        "65534",
        "--clear-groups",
    ]);
    // The program stands where that user may not look, so it is run from a copy.
    let copy = net.folder.join("dhcp");
    std::fs::copy(env!("CARGO_BIN_EXE_dhcp"), &copy).unwrap();
    let output = command.arg(copy).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
}

/// Enough to ask for a lease and not to configure it: who waits for `--once` is told at the start.
#[test]
fn with_packet_sockets_alone_it_does_not_start() {
    let net = Net::new();
    let mut command = net.in_client("setpriv");
    command.args(["--bounding-set", "-all,+net_raw", "--inh-caps", "-all"]);
    command.arg(env!("CARGO_BIN_EXE_dhcp")).args(net.folders());
    let output = command.args(["--once", "--timeout", "5"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("not permitted to configure"), "{text}");
}
