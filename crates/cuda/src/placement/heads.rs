//! Which heads does each layer's attention have, and how large is what follows from them, and from mixers of other kinds?

use model::architecture::{Architecture, Heads, Mixer, Position};

/// Those of a layer.
pub(crate) fn of(arch: &Architecture, layer: usize) -> Heads {
    arch.heads(layer).unwrap_or_else(|| unreachable!("layer {layer} has attention"))
}

/// Those of all layers that have attention.
pub(crate) fn all(arch: &Architecture) -> impl Iterator<Item = Heads> {
    arch.mixers.iter().filter_map(Mixer::heads)
}

/// The most that any layer has of something.
pub(crate) fn most(arch: &Architecture, size: impl Fn(Heads) -> usize) -> usize {
    all(arch).map(size).max().unwrap_or(0)
}

/// Values in a row of what a mixer's output reads.
pub(crate) fn n_mixed(mixer: &Mixer) -> usize {
    match mixer {
        Mixer::Attention(heads) => heads.n_q(),
        Mixer::Latent(latent) => latent.n_head * latent.n_value,
        Mixer::ShortConv(conv) => conv.n_channel,
        Mixer::DeltaRule(rule) => rule.n_v(),
    }
}

/// Values in a row of keys of the layer's own: none where it reads an earlier layer's.
pub(crate) fn n_own_kv(heads: Heads) -> usize {
    if heads.keeps() { heads.n_kv() } else { 0 }
}

/// Values in a row of what its products give: queries, keys and values.
pub(crate) fn n_qkv(heads: Heads) -> usize {
    heads.n_q() + 2 * n_own_kv(heads)
}

/// Likewise of any mixer, where products leave queries, keys and values side by side.
pub(crate) fn n_qkv_of(mixer: &Mixer) -> usize {
    match mixer {
        Mixer::Attention(heads) => n_qkv(*heads),
        Mixer::Latent(_) | Mixer::ShortConv(_) | Mixer::DeltaRule(_) => 0,
    }
}

/// Pairs of a head that a kind of rotation turns, by kind.
pub(crate) fn half_rots(arch: &Architecture) -> Vec<usize> {
    match &arch.position {
        Position::Rope(ropes) => ropes.kinds.iter().map(|rope| rope.n_rot / 2).collect(),
        Position::Learned => vec![0],
    }
}
