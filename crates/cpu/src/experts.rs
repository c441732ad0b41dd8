//! The mixture of experts: the feed-forward of each expert with the rows that chose it, and of the experts that all rows share.
//!
//! Rows are gathered by expert, so that an expert's weights are read once a step; within an expert they keep their order, prompts
//! first. A row's sum runs over its experts in the order of their ranks, so grouping does not change it.

use model::architecture::{Activation, FeedForward, Mixture};
use model::weights::{Experts, Linear, NormWeights, SharedExpert};

use crate::elementwise::{finish, scale};
use crate::forward::{Buffer, Forward};
use crate::kernels::{Product, Rows};
use crate::router::{choose, sigmoid};

/// One row's use of one expert.
#[derive(Clone, Copy)]
struct Use {
    row: usize,
    expert: usize,
    weight: f32,
    /// Its row among the rows of its expert.
    at: usize,
}

/// Who uses which expert.
struct Routing {
    /// By row, a row's best first.
    uses: Vec<Use>,
    /// The experts that any row uses, in order.
    chosen: Vec<usize>,
    /// By expert.
    rows_of: Vec<Vec<usize>>,
}

impl Routing {
    fn new(forward: &mut Forward<'_>, mixture: &Mixture, experts: &Experts, normed: Rows<'_>) -> Routing {
        let n_expert = mixture.n_expert;
        let mut logits = vec![0.0; normed.n_row() * n_expert];
        forward.linears(normed, [&experts.router], [&mut logits]);
        if mixture.has_branch_norms {
            scale(forward.pool, &mut logits, 1.0 / (normed.n_cols as f32).sqrt());
        }
        let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); n_expert];
        let mut uses = Vec::with_capacity(normed.n_row() * mixture.n_used);
        for (row, logits) in logits.chunks_exact(n_expert).enumerate() {
            for (expert, weight) in choose(mixture, experts.choice_bias.as_deref(), logits) {
                let weight = experts.scale.as_ref().map_or(weight, |scale| weight * scale[expert]);
                uses.push(Use { row, expert, weight, at: rows_of[expert].len() });
                rows_of[expert].push(row);
            }
        }
        let chosen = (0..n_expert).filter(|&e| !rows_of[e].is_empty()).collect();
        Routing { uses, chosen, rows_of }
    }

    /// The chosen experts' own of what each expert has.
    fn pick<'a>(&self, linears: &'a [Linear]) -> Vec<&'a Linear> {
        self.chosen.iter().map(|&e| &linears[e]).collect()
    }

    /// Gathered rows as inputs of products, `[n_cols]` each.
    fn inputs<'a>(&self, gathered: &'a [Vec<f32>], n_cols: usize, n_prompt: usize) -> Vec<Rows<'a>> {
        let n_prompt_of = |e: usize| self.rows_of[e].iter().filter(|&&row| row < n_prompt).count();
        let inputs = self.chosen.iter().zip(gathered);
        inputs.map(|(&e, data)| Rows { data, n_cols, n_prompt: n_prompt_of(e) }).collect()
    }

    /// A use's part of what its expert gave, `[n_cols]` a row.
    fn part<'a>(&self, by_expert: &'a [Vec<f32>], used: Use, n_cols: usize) -> &'a [f32] {
        let slot = self.chosen.binary_search(&used.expert).unwrap_or_default();
        &by_expert[slot][used.at * n_cols..][..n_cols]
    }
}

/// The feed-forward of every row: `normed`, `x` (the residual stream) and `sum` are `[n_row, n_embd]`, `observe` sees the hidden rows.
pub(crate) fn feed_forward(
    forward: &mut Forward<'_>,
    (feed_forward, mixture, experts): (&FeedForward, &Mixture, &Experts),
    (normed, x, sum): (Rows<'_>, &[f32], &mut [f32]),
    buffers: [&mut Buffer; 2],
    observe: &mut dyn FnMut(&[f32]),
) {
    let norms = experts.norms.as_deref();
    let own = norms.map(|norms| [&norms.router, &norms.experts].map(|norm| renormed(forward, norm, x)));
    let [to_router, to_experts] = match &own {
        Some(own) => own.each_ref().map(|data| Rows { data, ..normed }),
        None => [normed; 2],
    };
    let routing = Routing::new(forward, mixture, experts, to_router);
    let hidden = hidden(forward, feed_forward.activation, (&routing, experts), to_experts);
    let parts = routing.uses.iter().map(|&u| routing.part(&hidden, u, feed_forward.n_ff));
    let mut seen = parts.collect::<Vec<_>>().concat();

    let inputs = routing.inputs(&hidden, feed_forward.n_ff, normed.n_prompt);
    let downs = routing.pick(&experts.down);
    let mut lowered = outputs(&downs, &inputs);
    let products = downs.iter().zip(&mut lowered).enumerate();
    let mut products: Vec<Product<'_>> =
        products.map(|(input, (w, out))| Product { input, matrix: &w.weight, out }).collect();
    forward.kernels.products(forward.pool, &inputs, &mut products);
    for (down, out) in downs.iter().zip(&mut lowered) {
        finish(forward.pool, down, out);
    }
    let n_embd = normed.n_cols;
    sum.fill(0.0);
    for &used in &routing.uses {
        let out = routing.part(&lowered, used, n_embd);
        sum[used.row * n_embd..][..n_embd]
            .iter_mut()
            .zip(out)
            .for_each(|(sum, out)| *sum += used.weight * out);
    }
    if let Some(norms) = norms {
        sum.copy_from_slice(&renormed(forward, &norms.experts_post, sum));
    }
    if let Some(shared) = &experts.shared {
        let shared = (shared.as_ref(), norms.map(|norms| &norms.shared_post));
        seen.extend_from_slice(add_shared(forward, feed_forward.activation, shared, (normed, sum), buffers));
    }
    observe(&seen);
}

fn renormed(forward: &Forward<'_>, norm: &NormWeights, rows: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    forward.norm(norm, rows, &mut out);
    out
}

/// The hidden rows of each chosen expert.
fn hidden(
    forward: &mut Forward<'_>,
    activation: Activation,
    (routing, experts): (&Routing, &Experts),
    normed: Rows<'_>,
) -> Vec<Vec<f32>> {
    let gather = |rows: &[usize]| rows.iter().map(|&r| normed.row(r)).collect::<Vec<_>>().concat();
    let gathered: Vec<Vec<f32>> = routing.chosen.iter().map(|&e| gather(&routing.rows_of[e])).collect();
    let inputs = routing.inputs(&gathered, normed.n_cols, normed.n_prompt);
    let (gates, ups) = (routing.pick(&experts.gate), routing.pick(&experts.up));
    let (mut hidden, mut raised) = (outputs(&gates, &inputs), outputs(&ups, &inputs));
    let both = gates.iter().zip(&mut hidden).enumerate().chain(ups.iter().zip(&mut raised).enumerate());
    let mut products: Vec<Product<'_>> =
        both.map(|(input, (w, out))| Product { input, matrix: &w.weight, out }).collect();
    forward.kernels.products(forward.pool, &inputs, &mut products);
    for (i, (h, u)) in hidden.iter_mut().zip(&mut raised).enumerate() {
        finish(forward.pool, gates[i], h);
        finish(forward.pool, ups[i], u);
        forward.kernels.activate(forward.pool, activation, h, Some(u));
    }
    hidden
}

/// Adds what the shared experts give to each row, normalised where there is a norm of it, and returns their hidden rows.
fn add_shared<'b>(
    forward: &mut Forward<'_>,
    activation: Activation,
    (shared, norm): (&SharedExpert, Option<&NormWeights>),
    (normed, sum): (Rows<'_>, &mut [f32]),
    buffers: [&'b mut Buffer; 2],
) -> &'b [f32] {
    let h = forward.gated(&shared.ffn, activation, normed, buffers);
    let down = &shared.ffn.down;
    let mut lowered = vec![0.0; sum.len()];
    forward.linears(
        Rows { data: h, n_cols: down.weight.n_cols, n_prompt: normed.n_prompt },
        [down],
        [&mut lowered],
    );
    if let Some(norm) = norm {
        lowered = renormed(forward, norm, &lowered);
    }
    let mut shares = vec![1.0; normed.n_row()];
    if let Some(gate) = &shared.gate {
        forward.linears(normed, [gate], [&mut shares]);
        shares.iter_mut().for_each(|share| *share = sigmoid(*share));
    }
    let n_embd = normed.n_cols;
    let rows = sum.chunks_exact_mut(n_embd).zip(lowered.chunks_exact(n_embd));
    for ((sum, out), share) in rows.zip(shares) {
        sum.iter_mut().zip(out).for_each(|(sum, out)| *sum += share * out);
    }
    h
}

fn outputs(linears: &[&Linear], inputs: &[Rows<'_>]) -> Vec<Vec<f32>> {
    linears.iter().zip(inputs).map(|(w, x)| vec![0.0; w.weight.n_rows * x.n_row()]).collect()
}
