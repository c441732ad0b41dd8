//! Which heads does each layer's attention have, and how large is what follows from them, and from mixers of other kinds?

use model::KvType;
use model::architecture::{Architecture, Heads, Mixer, Position};

use crate::args::PAGE;
use crate::step::apart;
use crate::step::options::Sizes;

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

/// Bytes of the keys of a layer's cache, and of its values.
pub(crate) fn plane_bytes(heads: Heads, sizes: &Sizes) -> u64 {
    sizes.kv_type.bytes(plane_values(heads, sizes))
}

fn plane_values(heads: Heads, sizes: &Sizes) -> u64 {
    let pages = sizes.pages;
    let n_page = pages.window.filter(|_| heads.window.is_some()).map_or(pages.n_page, |own| own.n_page);
    [n_page, PAGE, heads.n_kv()].iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64))
}

/// Bytes of the first `n` layers of the cache.
pub(crate) fn first_planes(arch: &Architecture, sizes: &Sizes, n: usize) -> u64 {
    let n_plane = |heads: Heads| 1 + u64::from(heads.has_values());
    let planes =
        arch.kv_layers().take(n).map(|heads| plane_bytes(heads, sizes).saturating_mul(n_plane(heads)));
    planes.fold(0, u64::saturating_add)
}

/// Bytes of one layer's keys as float16, and of its values, which follow all planes where the cache is not float16 and a prompt's attention
/// wants them so.
pub(crate) fn unpacked_bytes(arch: &Architecture, sizes: &Sizes) -> Option<u64> {
    let wanted = sizes.kv_type != KvType::F16 && !apart::attention(arch);
    let widest = all(arch).map(|heads| plane_values(heads, sizes)).max().unwrap_or(0);
    wanted.then(|| KvType::F16.bytes(widest))
}

/// Bytes of all that.
pub(crate) fn kv_bytes(arch: &Architecture, sizes: &Sizes) -> u64 {
    let unpacked = unpacked_bytes(arch, sizes).unwrap_or(0).saturating_mul(2);
    first_planes(arch, sizes, arch.n_layer).saturating_add(unpacked)
}
