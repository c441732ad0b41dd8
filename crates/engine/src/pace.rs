//! How many prompt rows may a step have?
//!
//! Cancelling, deadlines and new requests are seen between steps, so a step should not last much longer than the target. Where devices
//! are slow, that bounds the rows of prompts; what a row computes does not depend on how its prompt is cut. The measure is a step's seconds for
//! each of its prompt rows, whatever else the step did: steps of fewer rows cost more a row, so following it leads to the target from below.

use std::collections::VecDeque;
use std::time::Duration;

/// Steps of fewer rows waste what a device reads once a step: the weights.
const LEAST_ROWS: usize = 32;
/// Steps that are remembered.
const N_MEASURED: usize = 5;

/// Measures steps and bounds their prompt rows.
#[derive(Debug)]
pub(crate) struct Pace {
    target: Option<Duration>,
    least: usize,
    most: usize,
    /// Of the last steps.
    seconds_per_row: VecDeque<f64>,
}

impl Pace {
    /// A bound of at most `n_row` rows for steps of about this length.
    pub(crate) fn new(target: Option<Duration>, n_row: usize) -> Pace {
        let seconds_per_row = VecDeque::with_capacity(N_MEASURED);
        Pace { target, least: LEAST_ROWS.min(n_row), most: n_row, seconds_per_row }
    }

    /// The most prompt rows that the next step should have: few until something was measured.
    pub(crate) fn n_row(&self) -> usize {
        let Some(target) = self.target else { return self.most };
        let mut sorted: Vec<f64> = self.seconds_per_row.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        // The median, so that one step during which the machine did something else does not count, nor the first, which reads the
        // weights from disk.
        match sorted.get(sorted.len().saturating_sub(1) / 2) {
            // A quotient that is no number or past the largest becomes 0 or the largest.
            Some(seconds) => ((target.as_secs_f64() / seconds) as usize).clamp(self.least, self.most),
            None => self.least,
        }
    }

    /// A step with so many prompt rows took so long.
    pub(crate) fn measured(&mut self, n_row: usize, took: Duration) {
        if n_row < self.least.max(1) {
            return;
        }
        if self.seconds_per_row.len() == N_MEASURED {
            self.seconds_per_row.pop_front();
        }
        self.seconds_per_row.push_back(took.as_secs_f64() / n_row as f64);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// The bounds of a device that takes so many milliseconds for a step and for each of its rows, every fourth time ten times as long.
    fn check(target: Option<u64>, (step, row): (f64, f64), expected: &Expect) {
        let mut pace = Pace::new(target.map(Duration::from_millis), 512);
        let mut bounds = Vec::new();
        for i in 0..12 {
            let n_row = pace.n_row();
            bounds.push(n_row.to_string());
            let seconds = (step + row * n_row as f64) / 1e3 * if i % 4 == 0 { 10.0 } else { 1.0 };
            pace.measured(n_row, Duration::from_secs_f64(seconds));
            pace.measured(3, Duration::from_secs(9));
        }
        expected.assert_eq(&bounds.join(" "));
    }

    #[test]
    fn steps_come_to_the_target_whatever_a_step_costs_besides() {
        check(None, (1.0, 1.0), &expect!["512 512 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (0.0, 1.0), &expect!["32 32 100 100 100 100 100 100 100 100 100 100"]);
        check(Some(100), (20.0, 0.5), &expect!["32 32 88 88 137 88 137 137 137 137 154 154"]);
        check(Some(100), (5.0, 0.01), &expect!["32 60 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (500.0, 9.0), &expect!["32 32 32 32 32 32 32 32 32 32 32 32"]);
    }
}
