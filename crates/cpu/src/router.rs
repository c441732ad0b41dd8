//! Which experts does a row use, and what does each weigh? The router of [`model::stage::Stage::FfnIn`] as code.

use model::architecture::{Gating, Groups, Mixture};

/// What sums of scores are at least: where all of them vanish, so do the weights.
const LEAST_SUM: f32 = 1e-20;

/// The chosen experts with their weights, best first. `logits` are `[n_expert]`, and so is `bias`, which counts for the choice alone.
pub(crate) fn choose(mixture: &Mixture, bias: Option<&[f32]>, logits: &[f32]) -> Vec<(usize, f32)> {
    let router = &mixture.router;
    let logits: Vec<f32> = logits.iter().map(|&l| number(l)).collect();
    let scores = match router.gating {
        Gating::Softmax => softmax(&logits),
        Gating::Sigmoid => logits.iter().map(|&l| sigmoid(l)).collect(),
        Gating::SoftmaxOfChosen => logits.clone(),
    };
    let mut ranks: Vec<f32> = match bias {
        Some(bias) => scores.iter().zip(bias).map(|(s, b)| number(s + b)).collect(),
        None => scores.iter().map(|&s| number(s)).collect(),
    };
    if let Some(groups) = router.groups {
        keep_best_groups(groups, router.gating, &mut ranks);
    }
    let chosen = best(&ranks, mixture.n_used);
    let of_chosen = |values: &[f32]| chosen.iter().map(|&e| values[e]).collect::<Vec<f32>>();
    let mut weights = match router.gating {
        Gating::SoftmaxOfChosen => softmax(&of_chosen(&logits)),
        Gating::Softmax | Gating::Sigmoid if router.is_normalised => shares(of_chosen(&scores)),
        Gating::Softmax | Gating::Sigmoid => of_chosen(&scores),
    };
    weights.iter_mut().for_each(|weight| *weight *= router.scale);
    chosen.into_iter().zip(weights).collect()
}

/// `1 / (1 + exp(-x))`.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// What is not a number is the smallest.
fn number(x: f32) -> f32 {
    if x.is_nan() { f32::NEG_INFINITY } else { x }
}

/// The indices of the `n` largest, largest first, the lowest among equals.
fn best(values: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(n);
    order
}

fn keep_best_groups(groups: Groups, gating: Gating, ranks: &mut [f32]) {
    let size = ranks.len() / groups.n_group;
    let n_counted = if gating == Gating::Sigmoid { 2 } else { 1 };
    let rank = |group: &[f32]| best(group, n_counted).into_iter().map(|e| group[e]).sum::<f32>();
    let kept = best(&ranks.chunks_exact(size).map(rank).collect::<Vec<_>>(), groups.n_used);
    for (index, group) in ranks.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&index) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

fn softmax(values: &[f32]) -> Vec<f32> {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = values.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|exp| exp / sum).collect()
}

fn shares(scores: Vec<f32>) -> Vec<f32> {
    let sum = scores.iter().sum::<f32>().max(LEAST_SUM);
    scores.into_iter().map(|score| score / sum).collect()
}

#[cfg(test)]
mod tests {
    use model::architecture::Router;

    use super::*;

    fn mixture(n_expert: usize, n_used: usize, router: Router) -> Mixture {
        Mixture { n_expert, n_used, router, shared: None, has_branch_norms: false }
    }

    fn experts(mixture: &Mixture, bias: Option<&[f32]>, logits: &[f32]) -> Vec<usize> {
        choose(mixture, bias, logits).into_iter().map(|(expert, _)| expert).collect()
    }

    fn weights(mixture: &Mixture, bias: Option<&[f32]>, logits: &[f32]) -> Vec<f32> {
        choose(mixture, bias, logits).into_iter().map(|(_, weight)| weight).collect()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    }

    const SIGMOID: Router = Router { gating: Gating::Sigmoid, ..Router::SOFTMAX_OF_CHOSEN };

    #[test]
    fn equals_are_chosen_in_order_and_no_number_comes_last() {
        let three = mixture(5, 3, Router::SOFTMAX_OF_CHOSEN);
        assert_eq!(experts(&three, None, &[1.0, 2.0, 2.0, f32::NAN, 2.0]), [1, 2, 4]);
        assert_eq!(experts(&three, None, &[f32::NAN, 2.0, f32::NAN, -1.0, 3.0]), [4, 1, 3]);
    }

    #[test]
    fn the_weights_are_those_of_the_gating() {
        let logits = [2f32.ln(), 1f32.ln(), 5f32.ln()];
        let of = |router| weights(&mixture(3, 2, router), None, &logits);
        close(&of(Router::SOFTMAX_OF_CHOSEN), &[5.0 / 7.0, 2.0 / 7.0]);
        let softmax = Router { gating: Gating::Softmax, is_normalised: false, ..Router::SOFTMAX_OF_CHOSEN };
        close(&of(softmax), &[5.0 / 8.0, 2.0 / 8.0]);
        close(&of(Router { is_normalised: true, ..softmax }), &[5.0 / 7.0, 2.0 / 7.0]);
        // The sigmoid of ln x is x / (x + 1).
        close(&of(Router { is_normalised: false, ..SIGMOID }), &[5.0 / 6.0, 2.0 / 3.0]);
        close(&of(Router { scale: 3.0, ..SIGMOID }), &[3.0 * 5.0 / 9.0, 3.0 * 4.0 / 9.0]);
    }

    #[test]
    fn the_bias_chooses_and_does_not_weigh() {
        let two = mixture(3, 2, Router { is_normalised: false, ..SIGMOID });
        let (bias, logits) = ([0.9, 0.0, 0.1], [-2.0, 1.0, 0.9]);
        assert_eq!(experts(&two, None, &logits), [1, 2]);
        assert_eq!(experts(&two, Some(&bias), &logits), [0, 2]);
        close(&weights(&two, Some(&bias), &logits), &[sigmoid(-2.0), sigmoid(0.9)]);
    }

    #[test]
    fn a_group_counts_by_its_best_or_by_its_two_best() {
        let groups = Some(Groups { n_group: 3, n_used: 1 });
        let logits = [3.0, -9.0, -9.0, 2.0, 2.0, -9.0, 1.0, 1.0, 1.0];
        let softmax = Router { gating: Gating::Softmax, groups, ..Router::SOFTMAX_OF_CHOSEN };
        assert_eq!(experts(&mixture(9, 2, softmax), None, &logits), [0, 1]);
        assert_eq!(experts(&mixture(9, 2, Router { groups, ..SIGMOID }), None, &logits), [3, 4]);
        // Equal groups: the first.
        assert_eq!(experts(&mixture(9, 1, Router { groups, ..SIGMOID }), None, &[1.0; 9]), [0]);
    }
}
