//! The library's face: an init of somebody's own.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn a_custom_init_supervises_and_keeps_its_logs_itself() {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "gokrazy-init",
            "--example",
            "custom_init",
        ])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    let init = std::path::Path::new(env!("CARGO_BIN_EXE_init"));
    let program = init.with_file_name("examples").join("custom_init");
    // What an earlier run printed must not answer for this one; there is nothing to remove on the first.
    let _ = std::fs::remove_dir_all("/tmp/custom-init");
    let spawned = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(&program)
        .spawn();
    let mut child = spawned
        .unwrap_or_else(|error| panic!("unshare: {error}; apt-get install util-linux, as root"));
    let ctl = |words: &[&str]| {
        let output = Command::new(init)
            .arg("ctl")
            .args(words)
            .args(["--run-dir", "/tmp/custom-init"])
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    let comes = |words: &[&str], wanted: &str| {
        (0..1500).any(|_| {
            let found = ctl(words).contains(wanted);
            if !found {
                sleep(Duration::from_millis(20));
            }
            found
        })
    };
    assert!(comes(&["logs", "greeter"], "hello world"));
    assert!(comes(
        &["status", "clock", "--json"],
        "\"state\":\"running\""
    ));
    ctl(&["poweroff"]);
    let mut ended = false;
    for _ in 0..1500 {
        ended = matches!(child.try_wait(), Ok(Some(status)) if status.success());
        if ended {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    assert!(ended);
}
