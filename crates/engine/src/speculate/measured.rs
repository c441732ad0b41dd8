//! How often was something right lately?

/// So many measurements count, the latest most.
const N_MEASURED: f64 = 24.0;

/// A share of guesses that were right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    n: f64,
    n_right: f64,
}

impl Measured {
    /// Before anything is measured: as if `n_right` of two guesses had been right.
    pub(super) const fn begin(n_right: f64) -> Measured {
        Measured { n: 2.0, n_right }
    }

    /// A guess was right or not.
    pub(super) fn note(&mut self, is_right: bool) {
        let kept = ((N_MEASURED - 1.0) / self.n).min(1.0);
        self.n = self.n * kept + 1.0;
        self.n_right = self.n_right * kept + f64::from(is_right);
    }

    /// The share, between 0 and 1.
    pub(super) fn chance(&self) -> f64 {
        self.n_right / self.n
    }

    /// The same share as if it came from at most `n` measurements, so that new ones count for more.
    pub(super) fn at_most(self, n: f64) -> Measured {
        let kept = (n / self.n).min(1.0);
        Measured { n: self.n * kept, n_right: self.n_right * kept }
    }
}
