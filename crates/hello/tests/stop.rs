//! The program as the supervisor meets it: it says hello at once, and SIGTERM ends it with goodbye and status 0.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn says_hello_and_ends_when_told_to() {
    for signal in ["TERM", "INT"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hello"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It blocks its signals before it speaks, so from here on none can kill it.
        let first = lines.next().unwrap().unwrap();
        assert!(first.starts_with("hello, world"), "{first}");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(rest, ["goodbye"], "{signal}");
        let status = child.wait_with_output().unwrap().status;
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
    }
}
