//! Measured values beside their budgets; pure.

use std::fmt::Write as _;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes, shown in MiB.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Times a second.
    PerSecond,
    /// Hundredths of one processor.
    Percent,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    what: String,
    value: f64,
    budget: Option<f64>,
    unit: Unit,
}

/// All of them, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a value that must not pass `budget`.
    pub(super) fn add(&mut self, what: impl Into<String>, value: f64, budget: f64, unit: Unit) {
        self.0.push(Row {
            what: what.into(),
            value,
            budget: Some(budget),
            unit,
        });
    }

    /// Adds a value that has no budget.
    pub(super) fn note(&mut self, what: impl Into<String>, value: f64, unit: Unit) {
        self.0.push(Row {
            what: what.into(),
            value,
            budget: None,
            unit,
        });
    }

    /// The table as text.
    pub(super) fn render(&self) -> String {
        let width = self
            .0
            .iter()
            .map(|row| row.what.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!("{:width$}  {:>12}  {:>12}\n", "", "measured", "budget");
        for row in &self.0 {
            let value = row.unit.show(row.value);
            let budget = row
                .budget
                .map(|budget| row.unit.show(budget))
                .unwrap_or_default();
            let line = format!(
                "{:width$}  {value:>12}  {budget:>12}  {}",
                row.what,
                row.verdict()
            );
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.budget {
            None => "",
            Some(budget) if self.value <= budget => "PASS",
            Some(_) => "OVER",
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Bytes => format!("{:.2} MiB", value / (1024.0 * 1024.0)),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::PerSecond => format!("{value:.2} /s"),
            Self::Percent => format!("{value:.2} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_up_to_its_last_bit_and_a_note_has_none() {
        let mut table = Table::default();
        table.add(
            "programs",
            6.0 * 1024.0 * 1024.0,
            6.0 * 1024.0 * 1024.0,
            Unit::Bytes,
        );
        table.add("boot", 1500.1, 1500.0, Unit::Milliseconds);
        table.note("switches", 0.25, Unit::PerSecond);
        assert_eq!(
            table.render(),
            "              measured        budget\n\
             programs      6.00 MiB      6.00 MiB  PASS\n\
             boot         1500.1 ms     1500.0 ms  OVER\n\
             switches       0.25 /s\n"
        );
    }
}
