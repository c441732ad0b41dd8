//! How well is a text predicted? The mean of `-ln p` of its tokens, and perplexity.

/// `ln Σ exp(logits)`, in double precision.
pub(super) fn log_sum(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    max + sum.ln()
}

/// `-ln softmax(logits)[target]`, in double precision.
pub(super) fn negative_log_likelihood(logits: &[f32], target: u32) -> f64 {
    let own = logits.get(target as usize).map_or(f64::NEG_INFINITY, |&x| f64::from(x));
    log_sum(logits) - own
}

/// The lowest of the most likely ids.
pub(super) fn most_likely(row: &[f32]) -> usize {
    let best = row.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(id, _)| id)
}

/// A running mean of values and its standard error; of `-ln p` also the perplexity, `exp(mean)`, whose error is that of the mean times itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Score {
    pub(super) count: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Score {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The root of the mean of the squares.
    pub(super) fn root_mean_square(&self) -> f64 {
        (self.sum_of_squares / self.count as f64).sqrt()
    }

    /// The standard error of the mean.
    pub(super) fn mean_error(&self) -> f64 {
        let variance = self.sum_of_squares / self.count as f64 - self.mean() * self.mean();
        (variance.max(0.0) / (self.count.max(2) - 1) as f64).sqrt()
    }

    pub(super) fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    pub(super) fn perplexity_error(&self) -> f64 {
        self.mean_error() * self.perplexity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_logits_have_the_vocabulary_as_perplexity() {
        let mut score = Score::default();
        for target in 0..8 {
            score.add(negative_log_likelihood(&[3.5; 50], target));
        }
        assert!((score.perplexity() - 50.0).abs() < 1e-9, "{}", score.perplexity());
        assert!(score.perplexity_error() < 1e-5, "{}", score.perplexity_error());
    }

    #[test]
    fn a_certain_token_costs_nothing_and_large_logits_do_not_overflow() {
        let logits = [1000.0, 0.0, -1000.0];
        assert!(negative_log_likelihood(&logits, 0).abs() < 1e-12);
        assert!((negative_log_likelihood(&logits, 2) - 2000.0).abs() < 1e-9);
    }

    #[test]
    fn the_error_of_a_mean_is_that_of_its_values() {
        let mut score = Score::default();
        [1.0, 2.0, 3.0, 6.0].into_iter().for_each(|value| score.add(value));
        // Variance 3.5 of the population, over n - 1.
        assert!(
            (score.mean() - 3.0).abs() < 1e-12 && (score.mean_error() - (3.5f64 / 3.0).sqrt()).abs() < 1e-12
        );
        assert!((score.root_mean_square() - 12.5f64.sqrt()).abs() < 1e-12);
    }
}
