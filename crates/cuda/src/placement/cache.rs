//! How many bytes does the KV cache take, and where do a layer's keys and values begin in it?

use model::KvType;
use model::architecture::{Architecture, Heads};

use crate::args::PAGE;
use crate::placement::{apart, heads};
use crate::sizes::Sizes;

/// Bytes of the keys of a layer's cache, and of its values.
pub(crate) fn plane_bytes(heads: Heads, sizes: &Sizes) -> u64 {
    sizes.kv_type.bytes(plane_values(heads, sizes))
}

/// Positions of one key head after the other in the keys of a layer's cache, and in its values.
pub(crate) fn plane_positions(heads: Heads, sizes: &Sizes) -> usize {
    n_page(heads, sizes).saturating_mul(PAGE).saturating_mul(heads.n_kv_head)
}

fn n_page(heads: Heads, sizes: &Sizes) -> usize {
    let pages = sizes.pages;
    pages.window.filter(|_| heads.window.is_some()).map_or(pages.n_page, |own| own.n_page)
}

fn plane_values(heads: Heads, sizes: &Sizes) -> u64 {
    [n_page(heads, sizes), PAGE, heads.n_kv()]
        .iter()
        .fold(1, |product: u64, &n| product.saturating_mul(n as u64))
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
    let widest = heads::all(arch).map(|heads| plane_values(heads, sizes)).max().unwrap_or(0);
    wanted.then(|| KvType::F16.bytes(widest))
}

/// Bytes of all that.
pub(crate) fn kv_bytes(arch: &Architecture, sizes: &Sizes) -> u64 {
    let unpacked = unpacked_bytes(arch, sizes).unwrap_or(0).saturating_mul(2);
    first_planes(arch, sizes, arch.n_layer).saturating_add(unpacked)
}
