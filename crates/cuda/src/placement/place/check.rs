//! Is this a model that the kernels can compute? Everything they take for granted, by name.

use model::Model;
use model::architecture::{
    Activation, Architecture, Conv, DeltaRule, FeedForward, FeedForwardKind, Groups, Heads, KvSource, Mixer,
    Mixture, NormKind, Position, QkNorm,
};
use model::weights::{
    AttentionWeights, BranchNorms, DeltaRuleWeights, Experts, Ffn, Gated, Layer, MixerWeights, SharedExpert,
    Weights,
};

use super::unsupported::{Unsupported, unsupported};
use crate::launch::attend::MAX_GROUP;
use crate::launch::prompt_gemm::SLAB_BYTES;
use crate::launch::route::{MAX_EXPERTS, MAX_GROUPS, MAX_USED};
use crate::launch::{attend_rows, recurrence};
use crate::placement::heads;

mod latent;
mod sizes;

use sizes::{linear, norm, table, vector};

/// A convolution's blocks look at so many rows before theirs, and a grid has so many blocks.
const MOST_TAPS: usize = 64;
const MOST_V_HEADS: usize = 4096;

/// The sizes and kinds.
pub(super) fn architecture(arch: &Architecture) -> Result<(), Unsupported> {
    choices(arch)?;
    if arch.mixers.len() != arch.n_layer {
        return unsupported("layers", arch.n_layer, arch.mixers.len());
    }
    arch.mixers.iter().try_for_each(mixer)?;
    if let Position::Rope(ropes) = &arch.position {
        if ropes.kinds.iter().any(|rope| rope.pairing != ropes.kinds[0].pairing)
            || ropes.layers.len() != arch.n_layer
        {
            return unsupported("rotations", "of one pairing, one for each layer", format!("{ropes:?}"));
        }
        let layers = ropes.layers.iter().zip(&arch.mixers);
        for (&kind, heads) in layers.filter_map(|(kind, mixer)| Some((kind, mixer.heads()?))) {
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
    for mixer in &arch.mixers {
        let (n, most) = (heads::n_mixed(mixer), widest(64));
        if n % 32 != 0 || n > most {
            let what = "width of all heads of queries, or of a recurrence's values";
            return unsupported(what, format!("a multiple of 32 up to {most}"), n);
        }
    }
    if arch.n_vocab == 0 || i32::try_from(arch.n_vocab).is_err() {
        return unsupported("size of the vocabulary", format!("from 1 to {}", i32::MAX), arch.n_vocab);
    }
    if arch.feed_forward.len() != arch.n_layer {
        return unsupported("feed-forwards", arch.n_layer, arch.feed_forward.len());
    }
    arch.feed_forward.iter().try_for_each(|layer| feed_forward(layer, widest(64)))?;
    // Buffers are of one number of experts.
    let counts = |mixture: &Mixture| [mixture.n_expert, mixture.n_used];
    let mut mixtures = arch.feed_forward.iter().filter_map(FeedForward::mixture).map(counts);
    let first = mixtures.next();
    match mixtures.find(|&found| Some(found) != first) {
        Some(found) => unsupported("experts", format!("in all layers {first:?}"), format!("{found:?}")),
        None => Ok(()),
    }
}

/// A layer's feed-forward.
fn feed_forward(layer: &FeedForward, widest: usize) -> Result<(), Unsupported> {
    let FeedForward { kind, n_ff, activation } = *layer;
    let shared = layer.mixture().and_then(|mixture| mixture.shared);
    for n_ff in [n_ff].into_iter().chain(shared.map(|shared| shared.n_ff)) {
        if n_ff == 0 || n_ff % 32 != 0 || n_ff > widest {
            return unsupported("feed-forward width", format!("a multiple of 32 up to {widest}"), n_ff);
        }
    }
    if kind == FeedForwardKind::Plain && activation != Activation::GeluTanh {
        return unsupported("plain feed-forward", "GELU", format!("{activation:?}"));
    }
    let Some(&Mixture { n_expert, n_used, router, .. }) = layer.mixture() else { return Ok(()) };
    if n_expert > MAX_EXPERTS || !(1..=n_expert.min(MAX_USED)).contains(&n_used) {
        let expected = format!("at most {MAX_EXPERTS}, from 1 to {MAX_USED} of them used");
        return unsupported("experts", expected, format!("{n_expert}, {n_used} of them used"));
    }
    let Some(Groups { n_group, n_used }) = router.groups else { return Ok(()) };
    let is_whole = (1..=MAX_GROUPS).contains(&n_group) && n_expert % n_group == 0;
    if !is_whole || !(1..=n_group).contains(&n_used) {
        let expected = format!("at most {MAX_GROUPS} of one size, from 1 to all of them used");
        return unsupported("groups of experts", expected, format!("{n_group}, {n_used} of them used"));
    }
    Ok(())
}

fn mixer(mixer: &Mixer) -> Result<(), Unsupported> {
    let heads = match *mixer {
        Mixer::Attention(heads) => heads,
        Mixer::Latent(sizes) => return latent::sizes(sizes),
        Mixer::ShortConv(conv) => return convolution(conv),
        Mixer::DeltaRule(rule) => {
            let DeltaRule { n_k_head, n_v_head, head_dim, .. } = rule;
            if !recurrence::HEAD_DIMS.contains(&head_dim) {
                return unsupported(
                    "head size of a delta rule",
                    format!("one of {:?}", recurrence::HEAD_DIMS),
                    head_dim,
                );
            }
            if n_k_head == 0 || n_v_head % n_k_head != 0 || n_v_head > MOST_V_HEADS {
                let expected = format!("up to {MOST_V_HEADS}, a multiple of those of keys");
                return unsupported(
                    "value heads of a delta rule",
                    expected,
                    format!("{n_v_head} for {n_k_head}"),
                );
            }
            return convolution(rule.conv());
        }
    };
    let Heads { n_head, n_kv_head, head_dim, .. } = heads;
    let most = attend_rows::MAX_HEAD_DIM;
    if head_dim == 0 || !head_dim.is_multiple_of(attend_rows::STEP) || head_dim > most {
        let expected = format!("a multiple of {} up to {most}", attend_rows::STEP);
        return unsupported("head size", expected, head_dim);
    }
    let group = n_head.checked_div(n_kv_head).unwrap_or(0);
    if group == 0 || group > MAX_GROUP || group * n_kv_head != n_head {
        let expected = format!("from 1 to {MAX_GROUP}");
        return unsupported("query heads of a key head", expected, format!("{n_head} for {n_kv_head}"));
    }
    Ok(())
}

fn convolution(conv: Conv) -> Result<(), Unsupported> {
    match conv.n_tap {
        2..=MOST_TAPS => Ok(()),
        n => unsupported("taps of a convolution", format!("from 2 to {MOST_TAPS}"), n),
    }
}

/// Choices that no kernel makes, or not together.
fn choices(arch: &Architecture) -> Result<(), Unsupported> {
    if heads::all(arch).next().is_none() {
        return unsupported("layers", "attention in one of them at least", "recurrent ones alone");
    }
    latent::choices(arch)?;
    if arch.attention.gated && heads::all(arch).any(|heads| heads.source != KvSource::Projections) {
        return unsupported(
            "gated attention",
            "keys and values of its own",
            "another layer's, or keys alone",
        );
    }
    if let Some(width) = arch.n_per_layer
        && (width == 0 || width % 32 != 0 || width > arch.n_embd || !arch.has_post_norms)
    {
        let expected =
            format!("of a multiple of 32 values up to {}, with norms after feed-forwards", arch.n_embd);
        return unsupported("inputs of layers of the token itself", expected, format!("{width} values each"));
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
    let branches = arch.feed_forward.iter().filter_map(FeedForward::mixture).filter(|m| m.has_branch_norms);
    let is_other = |mixture: &Mixture| mixture.shared.is_none_or(|shared| shared.has_gate);
    if branches.clone().any(is_other) || (branches.count() > 0 && !arch.has_post_norms) {
        let expected = "ones beside a dense feed-forward, with a norm after both";
        return unsupported("experts with norms of their own", expected, "others");
    }
    Ok(())
}

/// The tensors: launches and buffers follow from the architecture alone, so all must have its sizes.
pub(super) fn weights(model: &Model) -> Result<(), Unsupported> {
    let (arch, weights) = (&model.architecture, &model.weights);
    let n_embd = arch.n_embd;
    table(&weights.token_embd, [arch.n_vocab, n_embd])?;
    linear(&weights.output, [arch.n_vocab, n_embd])?;
    if weights.output.weight.name == weights.token_embd.name {
        // Tied, it has the embedding's tiles.
        table(&weights.output.weight, [arch.n_vocab, n_embd])?;
    }
    norm(&weights.output_norm, n_embd)?;
    match (&arch.position, &weights.position_embd) {
        (Position::Learned, Some(positions)) => table(positions, [arch.n_ctx_train, n_embd])?,
        (Position::Rope(_), None) => {}
        (_, table) => {
            let found = format!("{table:?} with {:?}", arch.position);
            return unsupported("table of positions", "one where positions are learned", found);
        }
    }
    if weights.layers.len() != arch.n_layer {
        return unsupported("layers", arch.n_layer, weights.layers.len());
    }
    per_layer(arch, weights)?;
    let mut layers = weights.layers.iter().zip(arch.mixers.iter().zip(&arch.feed_forward));
    layers.try_for_each(|(weights, (mixer, feed_forward))| layer(arch, (mixer, feed_forward), weights))
}

/// What layers add of the token itself.
fn per_layer(arch: &Architecture, weights: &Weights) -> Result<(), Unsupported> {
    let has =
        [weights.per_layer.is_some()].into_iter().chain(weights.layers.iter().map(|l| l.per_layer.is_some()));
    if has.into_iter().any(|has| has != arch.n_per_layer.is_some()) {
        return unsupported(
            "inputs of layers of the token itself",
            format!("{:?}", arch.n_per_layer),
            "other tensors",
        );
    }
    let (Some(inputs), Some(width)) = (&weights.per_layer, arch.n_per_layer) else { return Ok(()) };
    let n_all = width * arch.n_layer;
    table(&inputs.token_embd, [arch.n_vocab, n_all])?;
    linear(&inputs.model, [n_all, arch.n_embd])?;
    vector("values of a norm", Some(&inputs.norm), width)?;
    weights.layers.iter().filter_map(|layer| layer.per_layer.as_ref()).try_for_each(|layer| {
        linear(&layer.gate, [width, arch.n_embd])?;
        linear(&layer.output, [arch.n_embd, width])?;
        norm(&layer.norm, arch.n_embd)
    })
}

fn layer(
    arch: &Architecture,
    (mixer, feed_forward): (&Mixer, &FeedForward),
    layer: &Layer,
) -> Result<(), Unsupported> {
    let (n_embd, n_ff) = (arch.n_embd, feed_forward.n_ff);
    let post_norms = [&layer.attn_post_norm, &layer.ffn_post_norm];
    for place in [&layer.attn_norm, &layer.ffn_norm].into_iter().chain(post_norms) {
        place.iter().try_for_each(|place| norm(place, n_embd))?;
    }
    if post_norms.into_iter().any(Option::is_some) != arch.has_post_norms {
        let expected = if arch.has_post_norms { "one" } else { "none" };
        return unsupported("norms after attention and feed-forward", expected, format!("{post_norms:?}"));
    }
    match (&layer.mixer, *mixer) {
        (MixerWeights::Attention(weights), Mixer::Attention(heads)) => attention(arch, heads, weights)?,
        (MixerWeights::Latent(weights), Mixer::Latent(sizes)) => latent::weights(n_embd, sizes, weights)?,
        (MixerWeights::ShortConv(weights), Mixer::ShortConv(conv)) => {
            linear(&weights.input, [3 * n_embd, n_embd])?;
            vector("taps of a convolution", Some(&weights.taps), n_embd * conv.n_tap)?;
            linear(&weights.output, [n_embd, n_embd])?;
        }
        (MixerWeights::DeltaRule(weights), Mixer::DeltaRule(rule)) => delta_rule(n_embd, rule, weights)?,
        (weights, _) => {
            let found = format!("{} matrices of another kind", weights.parts().0.len());
            return unsupported("layers", format!("{mixer:?}"), found);
        }
    }
    match (&layer.ffn, feed_forward.kind) {
        (Ffn::Gated(weights), FeedForwardKind::Gated) => gated(weights, [n_ff, n_embd]),
        (Ffn::Plain { up, down }, FeedForwardKind::Plain) => {
            linear(up, [n_ff, n_embd])?;
            linear(down, [n_embd, n_ff])
        }
        (Ffn::Experts(found), FeedForwardKind::Experts(mixture)) => experts(found, &mixture, [n_ff, n_embd]),
        (_, kind) => unsupported("feed-forward", format!("{kind:?}"), "weights of another kind"),
    }
}

fn attention(arch: &Architecture, heads: Heads, weights: &AttentionWeights) -> Result<(), Unsupported> {
    let (n_embd, choices) = (arch.n_embd, &arch.attention);
    let lengths = choices.qk_norm.map(|kind| match kind {
        QkNorm::Head => [heads.head_dim; 2],
        QkNorm::Row => [heads.n_q(), heads.n_kv()],
    });
    let lengths = [lengths.map(|[of_q, _]| of_q), lengths.map(|[_, of_k]| of_k).filter(|_| heads.keeps())];
    let found = [&weights.q_norm, &weights.k_norm].map(|norm| norm.as_ref().map(Vec::len));
    if found != lengths {
        return unsupported("norms of queries and keys", format!("{lengths:?}"), format!("{found:?}"));
    }
    linear(&weights.q, [choices.n_q_row(heads), n_embd])?;
    if choices.gated
        && (weights.q.bias.is_some() || weights.k.iter().chain(&weights.v).any(|map| map.bias.is_some()))
    {
        return unsupported("bias of gated attention", "none", "one");
    }
    weights.k.iter().chain(&weights.v).try_for_each(|map| linear(map, [heads.n_kv(), n_embd]))?;
    let expected = [heads.keeps(), heads.source == KvSource::Projections];
    let found = [weights.k.is_some(), weights.v.is_some()];
    if found != expected {
        return unsupported("keys and values of a layer", format!("{expected:?}"), format!("{found:?}"));
    }
    linear(&weights.output, [n_embd, heads.n_q()])?;
    vector("sinks of attention", weights.sinks.as_deref(), heads.n_head)
}

fn delta_rule(n_embd: usize, rule: DeltaRule, weights: &DeltaRuleWeights) -> Result<(), Unsupported> {
    let DeltaRuleWeights { qkv, gate, alpha, beta, taps, a, dt, norm, output } = weights;
    let (conv, n_v, n_head) = (rule.conv(), rule.n_v(), rule.n_v_head);
    linear(qkv, [conv.n_channel, n_embd])?;
    linear(gate, [n_v, n_embd])?;
    linear(alpha, [n_head, n_embd])?;
    linear(beta, [n_head, n_embd])?;
    linear(output, [n_embd, n_v])?;
    vector("taps of a convolution", Some(taps), conv.n_channel * conv.n_tap)?;
    for (values, n) in [(a, n_head), (dt, n_head), (norm, rule.head_dim)] {
        vector("values of a delta rule's heads", Some(values), n)?;
    }
    Ok(())
}

fn gated(Gated { gate, up, down }: &Gated, [n_ff, n_embd]: [usize; 2]) -> Result<(), Unsupported> {
    linear(gate, [n_ff, n_embd])?;
    linear(up, [n_ff, n_embd])?;
    linear(down, [n_embd, n_ff])
}

fn experts(experts: &Experts, mixture: &Mixture, [n_ff, n_embd]: [usize; 2]) -> Result<(), Unsupported> {
    let Mixture { n_expert, router, shared, has_branch_norms, .. } = *mixture;
    linear(&experts.router, [n_expert, n_embd])?;
    vector("values of the choice's bias", experts.choice_bias.as_deref(), n_expert)?;
    vector("factors of experts' outputs", experts.scale.as_deref(), n_expert)?;
    if experts.choice_bias.is_some() != router.has_choice_bias {
        let found = format!("{:?}", experts.choice_bias);
        return unsupported("bias of the choice of experts", router.has_choice_bias, found);
    }
    let norms = experts.norms.iter().flat_map(|norms| {
        let BranchNorms { router, experts, experts_post, shared_post } = &**norms;
        [router, experts, experts_post, shared_post]
    });
    for place in norms {
        norm(place, n_embd)?;
        if place.bias.is_some() {
            return unsupported("norms of experts", "no bias", "one");
        }
    }
    if experts.norms.is_some() != has_branch_norms {
        return unsupported("norms of experts", has_branch_norms, experts.norms.is_some());
    }
    match (&experts.shared, shared) {
        (Some(weights), Some(shared)) => {
            let SharedExpert { ffn, gate } = &**weights;
            gated(ffn, [shared.n_ff, n_embd])?;
            gate.iter().try_for_each(|gate| linear(gate, [1, n_embd]))?;
            if gate.is_some() != shared.has_gate {
                return unsupported("gate of shared experts", shared.has_gate, format!("{gate:?}"));
            }
        }
        (None, None) => {}
        (weights, shared) => {
            return unsupported("shared experts", format!("{shared:?}"), format!("{weights:?}"));
        }
    }
    let found = [experts.gate.len(), experts.up.len(), experts.down.len()];
    let expected = [n_expert; 3];
    if found != expected {
        return unsupported("gates, ups and downs of experts", format!("{expected:?}"), format!("{found:?}"));
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
