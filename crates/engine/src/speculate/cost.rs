//! What does a generated row more cost a step?

use std::time::Duration;

/// About how many of the latest steps count.
const N_STEP: f64 = 48.0;
/// The least variance of the rows of these steps from which a row's part of the time can be told.
const LEAST_VARIANCE: f64 = 0.05;
/// What a row is taken to cost before that, as a part of a step: little enough to be tried.
const FIRST_PART: f64 = 0.15;
/// A step that takes more than so many times what was expected was held up by something else.
const MOST: f64 = 1.5;

/// A step's seconds as a line over its generated rows, fitted to the latest steps that had no others.
#[derive(Debug, Default)]
pub(crate) struct RowCost {
    n: f64,
    n_row: f64,
    seconds: f64,
    variance: f64,
    covariance: f64,
    /// Seconds of a row, once they could be told.
    of_row: Option<f64>,
}

impl RowCost {
    /// A step of so many rows took so long.
    pub(crate) fn measured(&mut self, n_row: usize, took: Duration) {
        let (n_row, mut seconds) = (n_row as f64, took.as_secs_f64());
        if self.n >= 1.0 {
            seconds = seconds.min(MOST * self.line(n_row));
        }
        self.n = (self.n + 1.0).min(N_STEP);
        let part = 1.0 / self.n;
        let (off_row, off) = (n_row - self.n_row, seconds - self.seconds);
        self.n_row += part * off_row;
        self.seconds += part * off;
        self.variance = (1.0 - part) * (self.variance + part * off_row * off_row);
        self.covariance = (1.0 - part) * (self.covariance + part * off_row * off);
        if self.variance > LEAST_VARIANCE {
            self.of_row = Some((self.covariance / self.variance).max(0.0));
        }
    }

    /// Whether anything was measured.
    pub(crate) fn is_known(&self) -> bool {
        self.n >= 1.0
    }

    /// Seconds of a step of so many rows.
    pub(crate) fn of(&self, n_row: usize) -> f64 {
        self.line(n_row as f64)
    }

    /// Seconds of a row more.
    pub(crate) fn of_row(&self) -> f64 {
        self.of_row.unwrap_or(FIRST_PART * self.seconds / self.n_row.max(1.0))
    }

    fn line(&self, n_row: f64) -> f64 {
        // Not below what the row itself takes, however far the line is drawn out.
        (self.seconds + self.of_row() * (n_row - self.n_row)).max(self.of_row()).max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's milliseconds as measured from steps of `base + row * n` milliseconds with so many rows.
    fn of_row(rows: &[usize], (base, row): (u64, u64)) -> f64 {
        let mut cost = RowCost::default();
        for (i, &n) in rows.iter().cycle().take(300).enumerate() {
            let held_up = if i % 50 == 7 { 20 } else { 1 };
            cost.measured(n, Duration::from_millis((base + row * n as u64) * held_up));
        }
        1e3 * cost.of_row()
    }

    #[test]
    fn a_rows_cost_is_told_from_steps_that_differ_in_rows() {
        assert!((of_row(&[1, 1, 5, 1, 3], (40, 10)) - 10.0).abs() < 2.0);
        assert!((of_row(&[32, 40, 33], (40, 10)) - 10.0).abs() < 2.5);
        // Rows that are free, and steps that tell nothing.
        assert!(of_row(&[1, 8, 2], (100, 0)) < 2.0);
        assert!((of_row(&[1], (90, 10)) - 15.0).abs() < 1.0);
    }

    #[test]
    fn what_was_told_lasts_while_steps_tell_nothing() {
        let mut cost = RowCost::default();
        (0..100).for_each(|i| cost.measured(1 + i % 4, Duration::from_millis(10 + 10 * (1 + i % 4) as u64)));
        (0..500).for_each(|_| cost.measured(1, Duration::from_millis(20)));
        assert!((1e3 * cost.of_row() - 10.0).abs() < 1.0);
        assert!((1e3 * cost.of(1) - 20.0).abs() < 1.0 && (1e3 * cost.of(5) - 60.0).abs() < 4.0);
    }
}
