//! What becomes of a text's hidden rows where a vector or a rank is wanted, not an answer? What a file says of it.
//!
//! Keys `FAMILY.pooling_type` and `FAMILY.classifier.output_labels` and the tensor `cls.output.weight`, as llama.cpp's converter writes them for
//! Qwen3-Embedding and Qwen3-Reranker.

use crate::architectures::Keys;
use crate::error::ModelError;

/// The most labels of a classifier.
pub(crate) const MAX_LABELS: usize = 1024;

/// The key with what becomes of a text's rows, behind the family's name.
const POOLING: &str = "pooling_type";

/// Which rows of a text make its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// None: each token has its own vector.
    None,
    /// The mean of all.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
    /// The last, which a classifier ranks.
    Rank,
}

impl Pooling {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Pooling::None => "none",
            Pooling::Mean => "mean",
            Pooling::First => "cls",
            Pooling::Last => "last",
            Pooling::Rank => "rank",
        }
    }

    /// What the file says, if it says anything.
    pub(crate) fn read(keys: &Keys<'_>) -> Result<Option<Pooling>, ModelError> {
        if keys.bool_of("attention.causal")? == Some(false) {
            let expected = "true: a token sees those before it and none after it";
            return Err(keys.wrong("attention.causal", expected, false));
        }
        Ok(match keys.i64_of(POOLING)? {
            // llama.cpp's word for a file that does not say.
            None | Some(-1) => None,
            Some(0) => Some(Pooling::None),
            Some(1) => Some(Pooling::Mean),
            Some(2) => Some(Pooling::First),
            Some(3) => Some(Pooling::Last),
            Some(4) => Some(Pooling::Rank),
            Some(other) => {
                let expected = "0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank)";
                return Err(keys.wrong(POOLING, expected, other));
            }
        })
    }
}

/// A map from a text's vector to how well each label fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[n_label, n_embd]`.
    pub weight: Vec<f32>,
    /// `[n_label]`.
    pub bias: Option<Vec<f32>>,
    /// How many labels; at least 1.
    pub n_label: usize,
}

impl Classifier {
    /// The probability of the first label for a vector `[n_embd]`: its part in the softmax over all, or the sigmoid where there is no other. In
    /// float64, in the order of the columns.
    #[must_use]
    pub fn probability(&self, vector: &[f32]) -> f64 {
        let rows = self.weight.chunks_exact(vector.len().max(1)).enumerate();
        let logits: Vec<f64> = rows
            .map(|(label, row)| {
                let bias = self.bias.as_ref().and_then(|bias| bias.get(label)).map_or(0.0, |&b| f64::from(b));
                row.iter().zip(vector).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() + bias
            })
            .collect();
        match logits[..] {
            [] => f64::NAN,
            [only] => 1.0 / (1.0 + (-only).exp()),
            [first, ..] => 1.0 / logits.iter().map(|logit| (logit - first).exp()).sum::<f64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_label_has_its_part_in_the_softmax() {
        let two = Classifier { weight: vec![1.0, 0.0, 0.0, 1.0], bias: None, n_label: 2 };
        assert!((two.probability(&[2.0, 1.0]) - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-15);
        assert!((two.probability(&[-1000.0, 1000.0])).abs() < 1e-15);
        let biased = Classifier { bias: Some(vec![0.0, 1.0]), ..two };
        assert_eq!(biased.probability(&[2.0, 1.0]), 0.5);
        let one = Classifier { weight: vec![1.0, 1.0], bias: Some(vec![-3.0]), n_label: 1 };
        assert_eq!(one.probability(&[2.0, 1.0]), 0.5);
    }
}
