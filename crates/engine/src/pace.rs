//! How many prompt rows may a step have?
//!
//! Cancelling, deadlines and new requests are seen between steps, so a step should not last much longer than the target. Where devices
//! are slow, that bounds the rows of prompts; what a row computes does not depend on how its prompt is cut. The measure is a step's seconds for
//! each of its prompt rows, whatever else the step did: steps of fewer rows cost more a row, so following it leads to the target from below.
//!
//! A step also reads and unpacks all weights, whatever its rows. On a CPU that takes as long as some 60 rows, for small models and large
//! ones, so the target alone would have a model of a billion weights spend most of a prompt's time on it. Steps are longer than the target
//! as far as that takes: by more where nobody waits for a next token than where somebody does.

use std::collections::VecDeque;
use std::time::Duration;

/// The rows of a step whose length nothing is known about. Steps of fewer are not measured.
const FIRST_ROWS: usize = 32;
/// Steps of fewer rows take more than half of their time for the weights, on a CPU.
const LEAST_ROWS: usize = 64;
/// Likewise more than a fifth: what is worth waiting for where nobody reads along.
const LEAST_ROWS_ALONE: usize = 256;
/// The most seconds that these make a step last, where it has [`FIRST_ROWS`].
const LONGEST: f64 = 10.0;
/// Steps that are remembered.
const N_MEASURED: usize = 5;

/// Measures steps and bounds their prompt rows.
#[derive(Debug)]
pub(crate) struct Pace {
    target: Option<Duration>,
    most: usize,
    /// Likewise where somebody waits for a next token.
    most_beside: usize,
    /// Of the last steps.
    seconds_per_row: VecDeque<f64>,
}

impl Pace {
    /// A bound of at most `most` rows for steps of about this length.
    pub(crate) fn new(target: Option<Duration>, most: usize) -> Pace {
        let seconds_per_row = VecDeque::with_capacity(N_MEASURED);
        Pace { target, most, most_beside: most, seconds_per_row }
    }

    /// With at most so many where somebody waits for a next token.
    pub(crate) fn beside(self, most: usize) -> Pace {
        Pace { most_beside: most.min(self.most), ..self }
    }

    /// The most prompt rows that the next step should have, where `has_streams` says whether somebody waits for a next token: few until
    /// something was measured.
    pub(crate) fn n_row(&self, has_streams: bool) -> usize {
        let most = if has_streams { self.most_beside } else { self.most };
        let Some(target) = self.target else { return most };
        let first = FIRST_ROWS.min(most);
        let mut sorted: Vec<f64> = self.seconds_per_row.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        // The median, so that one step during which the machine did something else does not count, nor the first, which reads the
        // weights from disk.
        match sorted.get(sorted.len().saturating_sub(1) / 2) {
            // A quotient that is no number or past the largest becomes 0 or the largest.
            Some(seconds) => {
                let least = if has_streams { LEAST_ROWS } else { LEAST_ROWS_ALONE };
                let least = least.min((LONGEST / seconds) as usize);
                ((target.as_secs_f64() / seconds) as usize).max(least).clamp(first, most)
            }
            None => first,
        }
    }

    /// A step with so many prompt rows took so long.
    pub(crate) fn measured(&mut self, n_row: usize, took: Duration) {
        if n_row < FIRST_ROWS.min(self.most).max(1) {
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

    /// The bounds of a device that takes so many milliseconds for a step and for each of its rows, every fourth time ten times as long, with
    /// streams in every step or in none.
    fn check(target: Option<u64>, (step, row): (f64, f64), has_streams: bool, expected: &Expect) {
        let mut pace = Pace::new(target.map(Duration::from_millis), 512);
        let mut bounds = Vec::new();
        for i in 0..12 {
            let n_row = pace.n_row(has_streams);
            bounds.push(n_row.to_string());
            let seconds = (step + row * n_row as f64) / 1e3 * if i % 4 == 0 { 10.0 } else { 1.0 };
            pace.measured(n_row, Duration::from_secs_f64(seconds));
            pace.measured(3, Duration::from_secs(9));
        }
        expected.assert_eq(&bounds.join(" "));
    }

    #[test]
    fn steps_come_to_the_target_whatever_a_step_costs_besides() {
        check(None, (1.0, 1.0), true, &expect!["512 512 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (0.0, 1.0), true, &expect!["32 64 100 100 100 100 100 100 100 100 100 100"]);
        check(Some(100), (20.0, 0.5), true, &expect!["32 64 123 123 150 123 150 150 150 150 157 157"]);
        check(Some(100), (5.0, 0.01), true, &expect!["32 64 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (500.0, 9.0), true, &expect!["32 40 64 64 64 64 64 64 64 64 64 64"]);
    }

    #[test]
    fn beside_streams_a_step_has_as_many_rows_as_that_says() {
        for target in [None, Some(Duration::from_millis(100))] {
            let mut pace = Pace::new(target, 512).beside(200);
            (0..12).for_each(|_| pace.measured(512, Duration::from_millis(1)));
            assert_eq!([true, false].map(|has_streams| pace.n_row(has_streams)), [200, 512]);
            assert_eq!(Pace::new(target, 100).beside(200).most_beside, 100);
        }
    }

    #[test]
    fn where_nobody_reads_along_steps_are_long_enough_for_what_each_costs_besides() {
        check(None, (1.0, 1.0), false, &expect!["512 512 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (5.0, 0.01), false, &expect!["32 256 512 512 512 512 512 512 512 512 512 512"]);
        check(Some(100), (20.0, 0.5), false, &expect!["32 256 256 256 256 256 256 256 256 256 256 256"]);
        check(Some(100), (300.0, 5.0), false, &expect!["32 69 256 256 256 256 256 256 256 256 256 256"]);
        // Nor do they last for very long, but few rows would take as long.
        check(Some(100), (2000.0, 30.0), false, &expect!["32 32 108 108 206 108 206 206 206 206 251 251"]);
        check(Some(100), (9000.0, 300.0), false, &expect!["32 32 32 32 32 32 32 32 32 32 32 32"]);
    }
}
