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
    // A folder of its own, and no pipe of ours to hold open: tests of another checkout may run beside us.
    let run_dir = std::env::temp_dir().join(format!("in-custom-{}", std::process::id()));
    let spawned = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(&program)
        .env("RUN_DIR", &run_dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut child = spawned
        .unwrap_or_else(|error| panic!("unshare: {error}; apt-get install util-linux, as root"));
    let ctl = |words: &[&str]| {
        let output = Command::new(init)
            .arg("ctl")
            .args(words)
            .arg("--run-dir")
            .arg(&run_dir)
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    let log = until(|| ctl(&["logs", "greeter"]), "hello world");
    let status = until(
        || ctl(&["status", "clock", "--json"]),
        "\"state\":\"running\"",
    );
    ctl(&["poweroff"]);
    let mut ended = false;
    for _ in 0..1500 {
        ended = matches!(child.try_wait(), Ok(Some(status)) if status.success());
        if ended {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    // Before any judgement, so that nothing is left behind whatever it is.
    let _ = child.kill();
    let _ = std::fs::remove_dir_all(&run_dir);
    assert!(log.contains("hello world"), "{log}");
    assert!(status.contains("\"state\":\"running\""), "{status}");
    assert!(ended);
}

/// What `get` gives once `wanted` is in it, or at the end of patience.
fn until(get: impl Fn() -> String, wanted: &str) -> String {
    let mut text = String::new();
    for _ in 0..1500 {
        text = get();
        if text.contains(wanted) {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    text
}
