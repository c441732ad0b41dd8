//! From a prompt's hidden rows to one vector.

use device::HiddenRows;

/// Which rows make the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

impl Pooling {
    /// Whether a part of the prompt may come from the cache, which keeps no hidden rows.
    pub(crate) fn reads_cache(self) -> bool {
        self == Pooling::Last
    }

    /// How many rows it needs of a prompt.
    fn n_row(self, n_prompt: usize) -> usize {
        if self == Pooling::Mean { n_prompt } else { 1 }
    }

    /// The rows that it needs of those from position `start` to `end` of a prompt.
    pub(crate) fn rows(self, start: usize, end: usize, n_prompt: usize) -> Option<HiddenRows> {
        match self {
            Pooling::Mean => Some(HiddenRows::All),
            Pooling::First => (start == 0).then_some(HiddenRows::First),
            Pooling::Last => (end == n_prompt).then_some(HiddenRows::Last),
        }
    }
}

/// What is there of a vector. Rows are added in their order in float64, so how a prompt is cut changes no bit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pooled {
    sum: Vec<f64>,
    n_row: usize,
}

impl Pooled {
    /// Adds rows, `[_, n_embd]`.
    pub(crate) fn add(&mut self, rows: &[f32], n_embd: usize) {
        self.sum.resize(n_embd, 0.0);
        for row in rows.chunks_exact(n_embd.max(1)) {
            self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            self.n_row += 1;
        }
    }

    /// The mean of what was added, `[n_embd]`, once that is all that is needed of a prompt.
    pub(crate) fn vector(&self, pooling: Pooling, n_prompt: usize) -> Option<Vec<f32>> {
        let n = self.n_row as f64;
        (self.n_row == pooling.n_row(n_prompt)).then(|| self.sum.iter().map(|sum| (sum / n) as f32).collect())
    }
}
