//! Runs `cargo test` and counts what the test programs say.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::report::{Counted, Report};
use crate::out::say;
use crate::process::line_of;
use crate::workspace::Workspace;

/// Runs the tests of all packages that `selection` selects and whose name holds `only`, and shows what they print.
pub(super) fn run(
    workspace: &Workspace,
    report: &mut Report,
    name: &str,
    selection: &[&str],
    only: &str,
) {
    report.title(&format!(
        "{name}: cargo test --workspace {}",
        selection.join(" ")
    ));
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace.root())
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(selection)
        .env("RUST_TEST_THREADS", THREADS)
        .arg("--")
        .args((!only.is_empty()).then_some(only));
    match stream(&mut command) {
        Ok((counted, ended)) => {
            // Cargo fails without a failed test when something does not compile, or a test program is killed.
            let silent = counted.failures.is_empty();
            report.add(&counted);
            if silent && ended.is_err() {
                report.case(&format!("{name} ran to their end"), ended);
            }
        }
        Err(error) => report.case(&format!("{name} can be run"), Err(error)),
    }
}

/// Tests at a time, on however many processors: most of them wait for packets and deadlines.
const THREADS: &str = "4";

/// How long after the end of its tests cargo's output may stay silent, and open.
const LEFT_OPEN: Duration = Duration::from_secs(5);

/// Runs `command`, passes its output on, and returns what it counted and how it ended.
///
/// A test that leaves a process behind leaves the output open with it: that is a failure, and not waited for.
fn stream(command: &mut Command) -> Result<(Counted, Result<()>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", line_of(command)))?;
    let lines = lines_of(child.stdout.take());
    let mut counted = Counted::default();
    loop {
        match lines.recv_timeout(LEFT_OPEN) {
            Ok(line) => {
                say!("{line}");
                counted.take(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait().context("look after cargo")?.is_some() {
                    let left = anyhow!("a test left a process behind that holds its output open");
                    return Ok((counted, Err(left)));
                }
            }
        }
    }
    let ended = end(&mut child, command);
    Ok((counted, ended))
}

/// The lines of `output` as they come; the channel closes with it.
fn lines_of(output: Option<ChildStdout>) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let split = output.map(|output| BufReader::new(output).split(b'\n'));
        for line in split.into_iter().flatten().map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    lines
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask is no supervisor: nobody else reaps this child"
)]
fn end(child: &mut Child, command: &Command) -> Result<()> {
    let status = child
        .wait()
        .with_context(|| format!("wait for {}", line_of(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line_of(command));
    }
    Ok(())
}

impl Counted {
    /// Counts one line of libtest's report: `test name ... ok` or `test name ... FAILED`.
    ///
    /// A summary line says the same once more and is left; an ignored test counts as failed, since what does not run
    /// proves nothing.
    fn take(&mut self, line: &str) {
        if let Some(summary) = line.trim_start().strip_prefix("test result: ") {
            self.take_summary(summary);
        } else if let Some((name, outcome)) = verdict(line)
            && (outcome == "FAILED" || outcome.starts_with("ignored"))
        {
            self.failures.push(name.to_owned());
        }
    }

    /// Passed tests are taken from the summary: a test's own output may tear its line in two.
    fn take_summary(&mut self, summary: &str) {
        let count = summary
            .split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(" passed"))
            .and_then(|count| count.trim().parse::<usize>().ok());
        self.passed += count.unwrap_or(0);
    }
}

fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.trim_end_matches(" - should panic"), outcome.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], passed: usize, failures: &[&str]) {
        let mut counted = Counted::default();
        lines.iter().for_each(|line| counted.take(line));
        assert_eq!(
            (counted.passed, counted.failures),
            (
                passed,
                failures.iter().map(|&name| name.to_owned()).collect()
            )
        );
    }

    #[test]
    fn results_of_several_programs_add_up() {
        check(
            &[
                "running 2 tests",
                "test a::b ... ok",
                "test a::c ... FAILED",
                "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            ],
            13,
            &["a::c"],
        );
    }

    #[test]
    fn an_ignored_test_is_no_pass() {
        check(&["test slow ... ignored, for later"], 0, &["slow"]);
    }

    #[test]
    fn other_lines_count_for_nothing() {
        check(&["tests are good", "test", "", "6 passed"], 0, &[]);
    }
}
