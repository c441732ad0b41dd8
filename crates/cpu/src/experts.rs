//! The mixture of experts: which experts a row uses, and the feed-forward of each with the rows that chose it.
//!
//! Rows are gathered by expert, so that an expert's weights are read once a step; within an expert they keep their order, prompts
//! first. A row's sum runs over its experts in the order of their router logits, so grouping does not change it.

use model::weights::{Experts, Linear};

use crate::elementwise::add_bias;
use crate::forward::Forward;
use crate::kernels::{Product, Rows};

/// One row's use of one expert.
#[derive(Clone, Copy)]
struct Use {
    row: usize,
    expert: usize,
    weight: f32,
    /// Its row among the rows of its expert.
    at: usize,
}

/// The feed-forward of every row: `sum` is `[n_row, n_embd]`, `observe` sees the hidden rows.
pub(crate) fn feed_forward(
    forward: &mut Forward<'_>,
    experts: &Experts,
    normed: Rows<'_>,
    sum: &mut [f32],
    observe: &mut dyn FnMut(&[f32]),
) {
    let feed_forward = forward.model.architecture.feed_forward;
    let Experts { router, n_used, gate, up, down } = experts;
    let n_expert = gate.len();
    let mut logits = vec![0.0; normed.n_row() * n_expert];
    forward.linears(normed, [router], [&mut logits]);
    let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); n_expert];
    let mut uses = Vec::with_capacity(normed.n_row() * *n_used);
    for (row, logits) in logits.chunks_exact(n_expert).enumerate() {
        for (expert, weight) in choose(logits, *n_used) {
            uses.push(Use { row, expert, weight, at: rows_of[expert].len() });
            rows_of[expert].push(row);
        }
    }
    let chosen: Vec<usize> = (0..n_expert).filter(|&e| !rows_of[e].is_empty()).collect();
    let n_prompt_of = |e: usize| rows_of[e].iter().filter(|&&row| row < normed.n_prompt).count();

    let gathered: Vec<Vec<f32>> = chosen.iter().map(|&e| gather(normed, &rows_of[e])).collect();
    let inputs: Vec<Rows<'_>> = chosen
        .iter()
        .zip(&gathered)
        .map(|(&e, data)| Rows { data, n_cols: normed.n_cols, n_prompt: n_prompt_of(e) })
        .collect();
    let (gates, ups, downs) = (pick(gate, &chosen), pick(up, &chosen), pick(down, &chosen));
    let mut hidden = outputs(&gates, &inputs);
    let mut raised = outputs(&ups, &inputs);
    {
        let gates = gates.iter().zip(&mut hidden).enumerate();
        let ups = ups.iter().zip(&mut raised).enumerate();
        let mut products: Vec<Product<'_>> =
            gates.chain(ups).map(|(input, (w, out))| Product { input, matrix: &w.weight, out }).collect();
        forward.kernels.products(forward.pool, &inputs, &mut products);
    }
    for (i, (h, u)) in hidden.iter_mut().zip(&mut raised).enumerate() {
        add_bias(forward.pool, gates[i], h);
        add_bias(forward.pool, ups[i], u);
        forward.kernels.activate(forward.pool, feed_forward.activation, h, Some(u));
    }
    let slot_of = |e: usize| chosen.binary_search(&e).unwrap_or_default();
    let n_ff = feed_forward.n_ff;
    let by_row: Vec<f32> =
        uses.iter().flat_map(|u| &hidden[slot_of(u.expert)][u.at * n_ff..][..n_ff]).copied().collect();
    observe(&by_row);

    let inputs: Vec<Rows<'_>> = chosen
        .iter()
        .zip(&hidden)
        .map(|(&e, data)| Rows { data, n_cols: n_ff, n_prompt: n_prompt_of(e) })
        .collect();
    let mut lowered = outputs(&downs, &inputs);
    {
        let mut products: Vec<Product<'_>> = (downs.iter().zip(&mut lowered).enumerate())
            .map(|(input, (w, out))| Product { input, matrix: &w.weight, out })
            .collect();
        forward.kernels.products(forward.pool, &inputs, &mut products);
    }
    let n_embd = normed.n_cols;
    sum.fill(0.0);
    for (down, out) in downs.iter().zip(&mut lowered) {
        add_bias(forward.pool, down, out);
    }
    for u in uses {
        let out = &lowered[slot_of(u.expert)][u.at * n_embd..][..n_embd];
        for (sum, out) in sum[u.row * n_embd..][..n_embd].iter_mut().zip(out) {
            *sum += u.weight * out;
        }
    }
}

/// The `n_used` largest logits, best first, the lowest index among equals, with the softmax over them. A NaN counts as the smallest.
fn choose(logits: &[f32], n_used: usize) -> Vec<(usize, f32)> {
    let key = |e: usize| if logits[e].is_nan() { f32::NEG_INFINITY } else { logits[e] };
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    order.truncate(n_used);
    let max = key(order[0]);
    let exps: Vec<f32> = order.iter().map(|&e| (key(e) - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    order.into_iter().zip(exps).map(|(e, exp)| (e, exp / sum)).collect()
}

fn gather(rows: Rows<'_>, which: &[usize]) -> Vec<f32> {
    which.iter().flat_map(|&r| &rows.data[r * rows.n_cols..][..rows.n_cols]).copied().collect()
}

fn pick<'a>(linears: &'a [Linear], chosen: &[usize]) -> Vec<&'a Linear> {
    chosen.iter().map(|&e| &linears[e]).collect()
}

fn outputs(linears: &[&Linear], inputs: &[Rows<'_>]) -> Vec<Vec<f32>> {
    linears.iter().zip(inputs).map(|(w, x)| vec![0.0; w.weight.n_rows * x.n_row()]).collect()
}
