//! Is the next step better submitted ahead, or when the tokens under way are known?
//!
//! A guess needs the token before it, so a step with guesses waits for the one before, and the device has nothing to do until the host has
//! taken that one's tokens and made the next. What that costs depends on the host, the model and how many sequences there are, so both ways are measured.

use std::time::Duration;

use super::{Candidate, MARGIN, RowCost, share};

/// What waiting is taken to cost before it was tried, as a part of a step.
const FIRST_GAP: f64 = 0.1;
/// So many steps were waited for: then one is submitted ahead, so that its time is known.
const N_WAITED: usize = 64;

/// How long steps of so many rows take, either way.
#[derive(Debug, Default)]
pub(crate) struct Rhythm {
    /// Of steps that are submitted ahead, or on a device that takes none ahead.
    ahead: RowCost,
    /// Of steps that were waited for, from the end of the one before.
    apart: RowCost,
    /// Rows of the latest step that was submitted ahead, and how many were waited for since.
    n_ahead_row: usize,
    n_waited: usize,
}

impl Rhythm {
    /// A step that was not waited for.
    pub(crate) fn measured_ahead(&mut self, n_row: usize, took: Duration) {
        self.ahead.measured(n_row, took);
        (self.n_ahead_row, self.n_waited) = (n_row, 0);
    }

    /// A step that was: from the end of the one before to its own.
    pub(crate) fn measured_apart(&mut self, n_row: usize, took: Duration) {
        self.apart.measured(n_row, took);
        self.n_waited += 1;
    }

    /// What rows cost a step that has guesses, where anything was measured.
    pub(crate) fn cost(&self) -> Option<&RowCost> {
        [&self.apart, &self.ahead].into_iter().find(|cost| cost.is_known())
    }

    /// Whether a step of `n_generated` rows and the guesses beside them gives more tokens a second than one without, submitted ahead.
    pub(crate) fn waits(&self, candidates: &[Candidate], (n_generated, room): (usize, usize)) -> bool {
        let is_measured = (n_generated.div_ceil(2)..=2 * n_generated).contains(&self.n_ahead_row);
        let Some(cost) = self.cost().filter(|_| is_measured && self.n_waited < N_WAITED) else {
            return false;
        };
        let counts = share(candidates, (n_generated, room), Some(cost));
        let n_guess: usize = counts.iter().sum();
        let right =
            |(candidate, n): (&Candidate, usize)| -> f64 { (1..=n).map(|n| candidate.reach(n)).sum() };
        let tokens = n_generated as f64 + candidates.iter().zip(counts).map(right).sum::<f64>();
        let without = self.ahead.of(n_generated);
        let with = if self.apart.is_known() {
            self.apart.of(n_generated + n_guess)
        } else {
            without * (1.0 + FIRST_GAP) + n_guess as f64 * cost.of_row()
        };
        n_guess > 0 && tokens * without > MARGIN * n_generated as f64 * with
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of a step's milliseconds, and how long it has nothing to do where a step is waited for, each with a part for every row.
    struct Device {
        step: (f64, f64),
        gap: (f64, f64),
    }

    /// Tokens a second of so many sequences with guesses of this chance, and without.
    fn rates(rhythm: &mut Rhythm, device: &Device, (n, chance): (usize, f64)) -> [f64; 2] {
        let line = |(base, row): (f64, f64), n: usize| base + row * n as f64;
        let candidates: Vec<Candidate> = (0..n).map(|_| Candidate { chances: vec![chance; 8] }).collect();
        let (mut tokens, mut milliseconds) = (0.0, 0.0);
        for _ in 0..2000 {
            let (n_row, took) = if rhythm.waits(&candidates, (n, 64)) {
                let counts = share(&candidates, (n, 64), rhythm.cost());
                tokens +=
                    counts.iter().map(|&n| (1..=n).map(|n| chance.powf(n as f64)).sum::<f64>()).sum::<f64>();
                let n_row = n + counts.iter().sum::<usize>();
                (n_row, line(device.step, n_row) + line(device.gap, n))
            } else {
                (n, line(device.step, n))
            };
            tokens += n as f64;
            milliseconds += took;
            let took = Duration::from_secs_f64(1e-3 * took);
            if n_row > n { rhythm.measured_apart(n_row, took) } else { rhythm.measured_ahead(n_row, took) }
        }
        [1e3 * tokens / milliseconds, 1e3 * n as f64 / line(device.step, n)]
    }

    #[test]
    fn one_sequence_waits_where_guesses_are_right() {
        let device = Device { step: (0.45, 0.01), gap: (0.05, 0.0) };
        let ratio = |chance| {
            let [with, without] = rates(&mut Rhythm::default(), &device, (1, chance));
            with / without
        };
        assert!(ratio(0.98) > 4.0, "{}", ratio(0.98));
        assert!(ratio(0.5) > 1.2, "{}", ratio(0.5));
        assert!(ratio(0.02) > 0.99, "{}", ratio(0.02));
    }

    #[test]
    fn nobody_waits_where_the_device_would_wait_longer_than_guesses_give() {
        // As measured with 32 sequences of a small model on a GPU: most of a step is the host's.
        let device = Device { step: (0.4, 0.018), gap: (0.05, 0.015) };
        for chance in [0.02, 0.5, 0.8, 0.95] {
            let mut rhythm = Rhythm::default();
            for n in [32, 1, 32, 16, 32] {
                let [with, without] = rates(&mut rhythm, &device, (n, chance));
                assert!(with > 0.98 * without, "{n} sequences, {chance}: {with} and {without} tokens/s");
            }
        }
    }

    #[test]
    fn many_wait_where_rows_and_gaps_are_cheap() {
        let device = Device { step: (2.0, 0.002), gap: (0.05, 0.001) };
        let mut rhythm = Rhythm::default();
        let [with, without] = rates(&mut rhythm, &device, (32, 0.9));
        assert!(with > 1.5 * without, "{with} and {without} tokens/s");
    }

    #[test]
    fn a_load_that_was_not_measured_is_not_waited_for() {
        let mut rhythm = Rhythm::default();
        let candidates = [Candidate { chances: vec![0.99; 8] }];
        assert!(!rhythm.waits(&candidates, (1, 16)));
        rhythm.measured_ahead(1, Duration::from_micros(470));
        assert!(rhythm.waits(&candidates, (1, 16)));
        assert!(!rhythm.waits(&candidates, (8, 16)));
        (0..N_WAITED).for_each(|_| rhythm.measured_apart(9, Duration::from_micros(600)));
        assert!(!rhythm.waits(&candidates, (1, 16)));
        rhythm.measured_ahead(1, Duration::from_micros(470));
        assert!(rhythm.waits(&candidates, (1, 16)));
    }
}
