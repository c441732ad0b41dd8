//! Is this a model that the kernels can compute? Everything they take for granted, by name.

use model::architecture::{
    Activation, Architecture, FeedForwardKind, Mixer, NormKind, Position, QkNorm, Rope,
};
use model::weights::{AttentionWeights, Experts, Ffn, Layer, Linear, MixerWeights, NormWeights};
use model::{Matrix, Model};

use super::Unsupported;
use crate::buffers::SLAB_BYTES;
use crate::launch::attend_rows;
use crate::layout::has_kernels;

#[allow(clippy::needless_pass_by_value)] // So that callers can pass what they make on the spot.
fn unsupported(what: &'static str, expected: impl ToString, found: impl ToString) -> Result<(), Unsupported> {
    Err(Unsupported { what, expected: expected.to_string(), found: found.to_string() })
}

/// The sizes and kinds.
pub(super) fn architecture(arch: &Architecture) -> Result<(), Unsupported> {
    let (attention, feed_forward) = (&arch.attention, &arch.feed_forward);
    let most = attend_rows::MAX_HEAD_DIM;
    if attention.head_dim == 0 || attention.head_dim % attend_rows::STEP != 0 || attention.head_dim > most {
        let expected = format!("a multiple of {} up to {most}", attend_rows::STEP);
        return unsupported("head size", expected, attention.head_dim);
    }
    if let Position::Rope(ropes) = &arch.position {
        let n_rot = ropes.kinds[0].n_rot;
        let shape = |rope: &Rope| (rope.n_rot, rope.pairing);
        if ropes.kinds.iter().any(|rope| shape(rope) != shape(&ropes.kinds[0]))
            || ropes.layers.len() != arch.n_layer
        {
            return unsupported("rotations", "of one shape, one for each layer", format!("{ropes:?}"));
        }
        if n_rot % 2 != 0 || n_rot > attention.head_dim {
            let expected = format!("an even number up to {}", attention.head_dim);
            return unsupported("rotated values of a head", expected, n_rot);
        }
    }
    choices(arch)?;
    let group = attention.n_head.checked_div(attention.n_kv_head).unwrap_or(0);
    if group == 0 || group > 16 || group * attention.n_kv_head != attention.n_head {
        let found = format!("{} for {}", attention.n_head, attention.n_kv_head);
        return unsupported("query heads of a key head", "from 1 to 16", found);
    }
    if attention.window.len() != arch.n_layer {
        let expected = format!("{}, one a layer", arch.n_layer);
        return unsupported("windows of attention", expected, attention.window.len());
    }
    // A slab of weights holds the rows of a head, or 64 of another matrix, twice each.
    let widest = |n_row: usize| SLAB_BYTES / 4 / n_row;
    for (what, n, most) in [
        ("embedding width", arch.n_embd, widest(attention.head_dim.max(64))),
        ("feed-forward width", feed_forward.n_ff, widest(64)),
        ("width of all query heads", attention.n_q(), widest(64)),
    ] {
        if n == 0 || n % 32 != 0 || n > most {
            return unsupported(what, format!("a multiple of 32 up to {most}"), n);
        }
    }
    if arch.n_vocab == 0 || i32::try_from(arch.n_vocab).is_err() {
        return unsupported("size of the vocabulary", format!("from 1 to {}", i32::MAX), arch.n_vocab);
    }
    if let FeedForwardKind::Experts { n_expert, n_used } = feed_forward.kind
        && (n_expert > 256 || !(1..=n_expert.min(8)).contains(&n_used))
    {
        let found = format!("{n_expert}, {n_used} of them used");
        return unsupported("experts", "at most 256, from 1 to 8 of them used", found);
    }
    if feed_forward.kind == FeedForwardKind::Plain && feed_forward.activation != Activation::GeluTanh {
        return unsupported("plain feed-forward", "GELU", format!("{:?}", feed_forward.activation));
    }
    Ok(())
}

/// Choices that no kernel makes, or not together.
fn choices(arch: &Architecture) -> Result<(), Unsupported> {
    let others = arch.mixers.iter().filter(|&&mixer| mixer != Mixer::Attention).count();
    if others > 0 {
        return unsupported("layers", "attention in each of them", format!("{others} recurrent ones"));
    }
    if arch.attention.gated {
        return unsupported("attention", "no gate of its output", "one");
    }
    if arch.norm.kind == NormKind::Layer && arch.has_post_norms {
        return unsupported("norms after attention and feed-forward", "RMS norms", "layer norms");
    }
    if arch.has_post_norms && matches!(arch.feed_forward.kind, FeedForwardKind::Experts { .. }) {
        return unsupported("norms after attention and feed-forward", "a dense feed-forward", "experts");
    }
    Ok(())
}

/// The tensors: launches and buffers follow from the architecture alone, so all must have its sizes.
pub(super) fn weights(model: &Model) -> Result<(), Unsupported> {
    let (arch, weights) = (&model.architecture, &model.weights);
    let n_embd = arch.n_embd;
    shape(&weights.token_embd, [arch.n_vocab, n_embd])?;
    linear(&weights.output, [arch.n_vocab, n_embd])?;
    norm(&weights.output_norm, n_embd)?;
    match (&arch.position, &weights.position_embd) {
        (Position::Learned, Some(table)) => shape(table, [arch.n_ctx_train, n_embd])?,
        (Position::Rope(_), None) => {}
        (_, table) => {
            let found = format!("{table:?} with {:?}", arch.position);
            return unsupported("table of positions", "one where positions are learned", found);
        }
    }
    if weights.layers.len() != arch.n_layer {
        return unsupported("layers", arch.n_layer, weights.layers.len());
    }
    weights.layers.iter().try_for_each(|weights| layer(arch, weights))
}

fn layer(arch: &Architecture, layer: &Layer) -> Result<(), Unsupported> {
    let (n_embd, n_ff, attention) = (arch.n_embd, arch.feed_forward.n_ff, &arch.attention);
    let post_norms = [&layer.attn_post_norm, &layer.ffn_post_norm];
    for place in [&layer.attn_norm, &layer.ffn_norm].into_iter().chain(post_norms) {
        place.iter().try_for_each(|place| norm(place, n_embd))?;
    }
    if post_norms.into_iter().any(Option::is_some) != arch.has_post_norms {
        let expected = if arch.has_post_norms { "one" } else { "none" };
        return unsupported("norms after attention and feed-forward", expected, format!("{post_norms:?}"));
    }
    let weights = self::attention(&layer.mixer)?;
    let lengths = attention.qk_norm.map(|kind| match kind {
        QkNorm::Head => [attention.head_dim; 2],
        QkNorm::Row => [attention.n_q(), attention.n_kv()],
    });
    let found = weights.qk_norm.as_ref().map(|norms| norms.each_ref().map(Vec::len));
    if found != lengths {
        return unsupported("norms of queries and keys", format!("{lengths:?}"), format!("{found:?}"));
    }
    linear(&weights.q, [attention.n_q(), n_embd])?;
    linear(&weights.k, [attention.n_kv(), n_embd])?;
    linear(&weights.v, [attention.n_kv(), n_embd])?;
    linear(&weights.output, [n_embd, attention.n_q()])?;
    vector("sinks of attention", weights.sinks.as_deref(), attention.n_head)?;
    match (&layer.ffn, arch.feed_forward.kind) {
        (Ffn::Gated { gate, up, down }, FeedForwardKind::Gated) => {
            linear(gate, [n_ff, n_embd])?;
            linear(up, [n_ff, n_embd])?;
            linear(down, [n_embd, n_ff])
        }
        (Ffn::Plain { up, down }, FeedForwardKind::Plain) => {
            linear(up, [n_ff, n_embd])?;
            linear(down, [n_embd, n_ff])
        }
        (Ffn::Experts(found), FeedForwardKind::Experts { n_expert, n_used }) => {
            experts(found, [n_expert, n_used], [n_ff, n_embd])
        }
        (_, kind) => unsupported("feed-forward", format!("{kind:?}"), "weights of another kind"),
    }
}

/// The tensors of a layer's attention.
pub(super) fn attention(mixer: &MixerWeights) -> Result<&AttentionWeights, Unsupported> {
    match mixer {
        MixerWeights::Attention(attention) => Ok(attention),
        other => {
            let found = format!("{} matrices of another kind", other.parts().0.len());
            Err(Unsupported { what: "layers", expected: "attention in each of them".to_owned(), found })
        }
    }
}

fn experts(
    experts: &Experts,
    [n_expert, n_used]: [usize; 2],
    [n_ff, n_embd]: [usize; 2],
) -> Result<(), Unsupported> {
    linear(&experts.router, [n_expert, n_embd])?;
    let found = [experts.gate.len(), experts.up.len(), experts.down.len(), experts.n_used];
    let expected = [n_expert, n_expert, n_expert, n_used];
    if found != expected {
        let what = "gates, ups and downs of experts, and how many are used";
        return unsupported(what, format!("{expected:?}"), format!("{found:?}"));
    }
    for (all, sizes) in
        [(&experts.gate, [n_ff, n_embd]), (&experts.up, [n_ff, n_embd]), (&experts.down, [n_embd, n_ff])]
    {
        for one in all {
            linear(one, sizes)?;
            if one.weight.format != all[0].weight.format {
                let expected = format!("experts of one format, {}", all[0].weight.format);
                return unsupported("feed-forward", expected, format!("{:?}", one.weight));
            }
        }
    }
    Ok(())
}

fn linear(linear: &Linear, sizes: [usize; 2]) -> Result<(), Unsupported> {
    shape(&linear.weight, sizes)?;
    vector("values of a bias", linear.bias.as_deref(), sizes[0])
}

fn norm(norm: &NormWeights, n: usize) -> Result<(), Unsupported> {
    vector("values of a norm", Some(&norm.weight), n)?;
    vector("values of a norm's bias", norm.bias.as_deref(), n)
}

fn shape(matrix: &Matrix, [n_row, n_column]: [usize; 2]) -> Result<(), Unsupported> {
    if !has_kernels(matrix.format) {
        return unsupported("weight format", "one that has kernels", format!("{matrix:?}"));
    }
    if [matrix.n_rows, matrix.n_cols] != [n_row, n_column] {
        return unsupported("shape of a matrix", format!("[{n_row}, {n_column}]"), format!("{matrix:?}"));
    }
    Ok(())
}

fn vector(what: &'static str, values: Option<&[f32]>, n: usize) -> Result<(), Unsupported> {
    match values {
        Some(values) if values.len() != n => unsupported(what, n, values.len()),
        _ => Ok(()),
    }
}
