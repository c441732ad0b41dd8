//! Is this a model that the kernels can compute? Everything they take for granted, by name.

use model::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Heads, KvSource, Mixer, Mixture, NormKind,
    Position, QkNorm, Router,
};
use model::weights::{AttentionWeights, Experts, Ffn, Gated, Layer, Linear, MixerWeights, NormWeights};
use model::{Matrix, Model};

use super::Unsupported;
use crate::buffers::SLAB_BYTES;
use crate::heads;
use crate::launch::attend_rows;

#[allow(clippy::needless_pass_by_value)] // So that callers can pass what they make on the spot.
fn unsupported(what: &'static str, expected: impl ToString, found: impl ToString) -> Result<(), Unsupported> {
    Err(Unsupported { what, expected: expected.to_string(), found: found.to_string() })
}

/// The sizes and kinds.
pub(super) fn architecture(arch: &Architecture) -> Result<(), Unsupported> {
    choices(arch)?;
    if arch.mixers.len() != arch.n_layer {
        return unsupported("layers", arch.n_layer, arch.mixers.len());
    }
    heads::all(arch).try_for_each(heads_of_layer)?;
    if let Position::Rope(ropes) = &arch.position {
        if ropes.kinds.iter().any(|rope| rope.pairing != ropes.kinds[0].pairing)
            || ropes.layers.len() != arch.n_layer
        {
            return unsupported("rotations", "of one pairing, one for each layer", format!("{ropes:?}"));
        }
        for (&kind, heads) in ropes.layers.iter().zip(heads::all(arch)) {
            let n_rot = kind.and_then(|kind| ropes.kinds.get(kind)).map_or(0, |rope| rope.n_rot);
            if n_rot % 2 != 0 || n_rot > heads.head_dim {
                let expected = format!("an even number up to {}", heads.head_dim);
                return unsupported("rotated values of a head", expected, n_rot);
            }
        }
    }
    // A slab of weights holds the rows of a head, or 64 of another matrix, twice each.
    let widest = |n_row: usize| SLAB_BYTES / 4 / n_row;
    for (what, n, most) in
        [("embedding width", arch.n_embd, widest(heads::most(arch, |heads| heads.head_dim).max(64)))]
    {
        if n == 0 || n % 32 != 0 || n > most {
            return unsupported(what, format!("a multiple of 32 up to {most}"), n);
        }
    }
    for heads in heads::all(arch) {
        let (n, most) = (heads.n_q(), widest(64));
        if n % 32 != 0 || n > most {
            return unsupported("width of all query heads", format!("a multiple of 32 up to {most}"), n);
        }
    }
    if arch.n_vocab == 0 || i32::try_from(arch.n_vocab).is_err() {
        return unsupported("size of the vocabulary", format!("from 1 to {}", i32::MAX), arch.n_vocab);
    }
    if arch.feed_forward.len() != arch.n_layer || arch.feed_forward.iter().any(|f| *f != arch.feed_forward[0])
    {
        return unsupported(
            "feed-forwards",
            "one for each layer, all alike",
            format!("{:?}", arch.feed_forward),
        );
    }
    arch.feed_forward.iter().try_for_each(|layer| feed_forward(layer, widest(64)))
}

/// A layer's feed-forward.
fn feed_forward(layer: &FeedForward, widest: usize) -> Result<(), Unsupported> {
    let FeedForward { kind, n_ff, activation } = *layer;
    if n_ff == 0 || n_ff % 32 != 0 || n_ff > widest {
        return unsupported("feed-forward width", format!("a multiple of 32 up to {widest}"), n_ff);
    }
    if kind == FeedForwardKind::Plain && activation != Activation::GeluTanh {
        return unsupported("plain feed-forward", "GELU", format!("{activation:?}"));
    }
    let Some(&Mixture { n_expert, n_used, router, shared, has_branch_norms }) = layer.mixture() else {
        return Ok(());
    };
    if n_expert > 256 || !(1..=n_expert.min(8)).contains(&n_used) {
        let found = format!("{n_expert}, {n_used} of them used");
        return unsupported("experts", "at most 256, from 1 to 8 of them used", found);
    }
    if router != Router::SOFTMAX_OF_CHOSEN {
        return unsupported("router", "the softmax of the chosen", format!("{router:?}"));
    }
    if has_branch_norms {
        return unsupported("experts", "norms shared with the dense feed-forward", "their own");
    }
    match shared {
        Some(shared) => unsupported("shared experts", "none", format!("{shared:?}")),
        None => Ok(()),
    }
}

fn heads_of_layer(heads: Heads) -> Result<(), Unsupported> {
    let Heads { n_head, n_kv_head, head_dim, .. } = heads;
    let most = attend_rows::MAX_HEAD_DIM;
    if head_dim == 0 || !head_dim.is_multiple_of(attend_rows::STEP) || head_dim > most {
        let expected = format!("a multiple of {} up to {most}", attend_rows::STEP);
        return unsupported("head size", expected, head_dim);
    }
    let group = n_head.checked_div(n_kv_head).unwrap_or(0);
    if group == 0 || group > 16 || group * n_kv_head != n_head {
        return unsupported("query heads of a key head", "from 1 to 16", format!("{n_head} for {n_kv_head}"));
    }
    Ok(())
}

/// Choices that no kernel makes, or not together.
fn choices(arch: &Architecture) -> Result<(), Unsupported> {
    let others = arch.mixers.iter().filter(|mixer| mixer.heads().is_none()).count();
    if others > 0 {
        return unsupported("layers", "attention in each of them", format!("{others} recurrent ones"));
    }
    let latent = arch.mixers.iter().filter(|mixer| matches!(mixer, Mixer::Latent(_))).count();
    if latent > 0 {
        let found = format!("{latent} with latent attention");
        return unsupported("layers", "attention with keys and values for each head", found);
    }
    if arch.attention.gated {
        return unsupported("attention", "no gate of its output", "one");
    }
    if let Some(width) = arch.n_per_layer {
        return unsupported("inputs of layers of the token itself", "none", format!("{width} values each"));
    }
    if arch.has_layer_scales && !arch.has_post_norms {
        return unsupported(
            "factors of layers",
            "none without norms after attention and feed-forward",
            "one each",
        );
    }
    let normed_by_head = arch.attention.qk_norm == Some(QkNorm::Head);
    let keys_alone = heads::all(arch).any(|heads| heads.source == KvSource::KeysAlone);
    if (arch.attention.v_norm && !normed_by_head) || (keys_alone && !arch.attention.v_norm) {
        let expected =
            "a norm of each head of queries, keys and values where there is one of values or keys are values";
        return unsupported("values", expected, "another choice of norms");
    }
    if arch.norm.kind == NormKind::Layer && arch.has_post_norms {
        return unsupported("norms after attention and feed-forward", "RMS norms", "layer norms");
    }
    if arch.has_post_norms && arch.mixture().is_some() {
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
    let mut layers = weights.layers.iter().zip(heads::all(arch).zip(&arch.feed_forward));
    layers.try_for_each(|(weights, (heads, feed_forward))| layer(arch, (heads, feed_forward), weights))
}

fn layer(
    arch: &Architecture,
    (heads, feed_forward): (Heads, &FeedForward),
    layer: &Layer,
) -> Result<(), Unsupported> {
    let (n_embd, n_ff, attention) = (arch.n_embd, feed_forward.n_ff, &arch.attention);
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
        QkNorm::Head => [heads.head_dim; 2],
        QkNorm::Row => [heads.n_q(), heads.n_kv()],
    });
    let lengths = [lengths.map(|[of_q, _]| of_q), lengths.map(|[_, of_k]| of_k).filter(|_| heads.keeps())];
    let found = [&weights.q_norm, &weights.k_norm].map(|norm| norm.as_ref().map(Vec::len));
    if found != lengths {
        return unsupported("norms of queries and keys", format!("{lengths:?}"), format!("{found:?}"));
    }
    linear(&weights.q, [heads.n_q(), n_embd])?;
    weights.k.iter().chain(&weights.v).try_for_each(|map| linear(map, [heads.n_kv(), n_embd]))?;
    let expected = [heads.keeps(), heads.source == KvSource::Projections];
    let found = [weights.k.is_some(), weights.v.is_some()];
    if found != expected {
        return unsupported("keys and values of a layer", format!("{expected:?}"), format!("{found:?}"));
    }
    linear(&weights.output, [n_embd, heads.n_q()])?;
    vector("sinks of attention", weights.sinks.as_deref(), heads.n_head)?;
    match (&layer.ffn, feed_forward.kind) {
        (Ffn::Gated(Gated { gate, up, down }), FeedForwardKind::Gated) => {
            linear(gate, [n_ff, n_embd])?;
            linear(up, [n_ff, n_embd])?;
            linear(down, [n_embd, n_ff])
        }
        (Ffn::Plain { up, down }, FeedForwardKind::Plain) => {
            linear(up, [n_ff, n_embd])?;
            linear(down, [n_embd, n_ff])
        }
        (Ffn::Experts(found), FeedForwardKind::Experts(mixture)) => {
            experts(found, mixture.n_expert, [n_ff, n_embd])
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

fn experts(experts: &Experts, n_expert: usize, [n_ff, n_embd]: [usize; 2]) -> Result<(), Unsupported> {
    linear(&experts.router, [n_expert, n_embd])?;
    let found = [experts.gate.len(), experts.up.len(), experts.down.len()];
    let expected = [n_expert; 3];
    if found != expected {
        return unsupported("gates, ups and downs of experts", format!("{expected:?}"), format!("{found:?}"));
    }
    if experts.scale.is_some() {
        return unsupported("factors of experts' outputs", "none", "some");
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
