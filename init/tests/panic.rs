//! A bug in init costs services a restart, and not the machine its PID 1.

use std::process::Command;

#[test]
fn a_panic_makes_a_fresh_init_of_the_same_process() {
    // `cargo test --test panic` builds no examples.
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "gokrazy-init",
            "--example",
            "panics_once",
        ])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    let init = std::path::Path::new(env!("CARGO_BIN_EXE_init"));
    let program = init.with_file_name("examples").join("panics_once");
    let output = Command::new(&program)
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("process"))
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    let process = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    assert!(
        lines.iter().all(|line| process(line) == process(lines[0])),
        "{text}"
    );
    assert!(lines[2].ends_with("after 2 panics"), "{text}");
    assert!(text.ends_with("0 children live\n"), "{text}");
    assert!(output.status.success());
}
