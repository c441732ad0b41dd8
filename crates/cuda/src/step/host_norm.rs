//! The norm before the output, on the host: of the few rows whose hidden values are wanted themselves.
//!
//! The device leaves the residual stream in float32, so nothing is lost on the way. Sums are in float64 and in the order of the columns: a row's bits
//! depend on that row alone.

use model::architecture::{Norm, NormKind};
use model::weights::NormWeights;

/// A norm's weights on the host.
#[derive(Clone, Debug)]
pub(crate) struct HostNorm {
    norm: Norm,
    weights: NormWeights,
}

impl HostNorm {
    pub(crate) fn new(norm: Norm, weights: &NormWeights) -> HostNorm {
        HostNorm { norm, weights: weights.clone() }
    }

    /// Normalises a row, `[n_embd]`.
    pub(crate) fn apply(&self, row: &mut [f32]) {
        let n = row.len() as f64;
        let mean = match self.norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => row.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
        };
        let square = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (square + f64::from(self.norm.eps)).sqrt();
        for (x, &w) in row.iter_mut().zip(&self.weights.weight) {
            *x = ((f64::from(*x) - mean) * scale * f64::from(w)) as f32;
        }
        for (x, &bias) in row.iter_mut().zip(self.weights.bias.iter().flatten()) {
            *x += bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_what_their_formulas_say() {
        let weights = NormWeights { weight: vec![1.0, 2.0], bias: None };
        let rms = HostNorm::new(Norm { kind: NormKind::Rms, eps: 0.0 }, &weights);
        let mut row = [3.0, 4.0];
        rms.apply(&mut row);
        let length = 12.5f32.sqrt();
        assert_eq!(row, [3.0 / length, 8.0 / length]);
        let weights = NormWeights { bias: Some(vec![0.5, -0.5]), ..weights };
        let layer = HostNorm::new(Norm { kind: NormKind::Layer, eps: 0.0 }, &weights);
        let mut row = [3.0, 5.0];
        layer.apply(&mut row);
        assert_eq!(row, [-0.5, 1.5]);
    }
}
