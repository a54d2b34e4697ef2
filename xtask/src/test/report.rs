//! The account of a test run: what ran, how long it took, and the last line.

use std::time::Duration;

use anyhow::Error;

use crate::clock::Stopwatch;

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
        println!("\n== {title} (at {})", seconds(self.started.elapsed()));
    }

    /// Counts one test and tells of it.
    pub(super) fn case(&mut self, name: &str, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name}\n        {}", indent(&format!("{error:#}")));
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
    pub(super) fn print(&self) {
        println!("\nran for {}", seconds(self.started.elapsed()));
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
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
    fn times_are_short() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 1 s");
    }
}
