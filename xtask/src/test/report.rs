//! The account of a test run: what ran, how long it took, and the last line.

use std::time::Duration;

use anyhow::Error;

use crate::clock::Stopwatch;
use crate::out::say;

/// What ran so far.
pub(super) struct Report {
    started: Stopwatch,
    passed: usize,
    failed: usize,
    failures: Vec<String>,
}

impl Report {
    /// An empty account; time counts from here.
    pub(super) fn new() -> Self {
        Self {
            started: Stopwatch::start(),
            passed: 0,
            failed: 0,
            failures: Vec::new(),
        }
    }

    /// Begins a group, for people.
    pub(super) fn title(&self, title: &str) {
        say!("\n== {title} (at {})", seconds(self.started.elapsed()));
    }

    /// Counts one test and tells of it.
    pub(super) fn case(&mut self, name: &str, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                say!("ok      {name}");
            }
            Err(error) => {
                self.failed += 1;
                say!("FAILED  {name}\n        {}", indent(&format!("{error:#}")));
                self.failures.push(name.to_owned());
            }
        }
    }

    /// Counts what a program that told of its tests itself has counted.
    pub(super) fn add(&mut self, counted: &Counted) {
        self.passed += counted.passed;
        self.failed += counted.failures.len();
        self.failures.extend(counted.failures.iter().cloned());
    }

    /// Tests that passed.
    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    /// Tests that failed, those that could not run among them.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// Prints the end of the account; its last line is plain.
    pub(super) fn print(&self, complete: bool) {
        let time = self.started.elapsed();
        say!(
            "\nran for {}{}",
            seconds(time),
            beside_budget(time, complete)
        );
        for failure in &self.failures {
            say!("failed: {failure}");
        }
        say!("{} passed, {} failed", self.passed, self.failed);
    }
}

/// Tests that some program ran and told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// How many passed.
    pub(super) passed: usize,
    /// Names of those that failed.
    pub(super) failures: Vec<String>,
}

/// What a complete run may take that begins with an empty target folder, on two cores that nobody else uses.
const BUDGET: Duration = Duration::from_secs(25 * 60);

/// The budget of a complete run, and whether it is kept; no reason to fail, for the cores may be shared.
fn beside_budget(time: Duration, complete: bool) -> String {
    if !complete {
        return String::new();
    }
    let verdict = if time <= BUDGET { "PASS" } else { "OVER" };
    format!(
        "; a complete run from an empty target folder on two cores may take {}  {verdict}",
        seconds(BUDGET)
    )
}

/// A time for people.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n        ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_test_is_counted_once() {
        let mut report = Report::new();
        report.case("a", Ok(()));
        report.case("b", Err(anyhow!("no")));
        report.add(&Counted {
            passed: 2,
            failures: vec!["c".to_owned()],
        });
        assert_eq!((report.passed(), report.failed()), (3, 2));
        assert_eq!(report.failures, ["b", "c"]);
    }

    #[test]
    fn a_complete_run_stands_beside_its_budget() {
        for (extra, complete, end) in [
            (0, true, "25 min 0 s  PASS"),
            (1, true, "OVER"),
            (1, false, ""),
        ] {
            let said = beside_budget(BUDGET + Duration::from_secs(extra), complete);
            assert!(said.ends_with(end), "{said}");
            assert_eq!(said.is_empty(), end.is_empty());
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 1 s");
    }
}
