//! Which models do more than products do, so that kernels of their own do it: norms of queries and keys, rotations that differ by layer,
//! attention with a cap or with heads of unusual sizes, and terms that are normalised or scaled before they are added?

use model::architecture::{Architecture, Heads, KvSource, Position};

use crate::launch::attend;
use crate::memory::layout::TILE;
use crate::placement::heads;

/// Whether queries and keys are more than a product that is turned, the same way in all layers.
pub(crate) fn heads(arch: &Architecture) -> bool {
    let differs = match &arch.position {
        // Products turn pairs of rows of a tile of 16.
        Position::Rope(ropes) => {
            ropes.layers.iter().any(|&kind| kind != Some(0)) || ropes.kinds[0].n_rot % TILE != 0
        }
        Position::Learned => false,
    };
    let Some(first) = heads::all(arch).next() else { return false };
    let uniform = heads::all(arch).all(|heads| Heads { window: first.window, ..heads } == first);
    let plain = uniform && first.source == KvSource::Projections && !arch.attention.v_norm;
    differs
        || !plain
        || attention(arch)
        || arch.attention.gated
        || arch.attention.qk_norm.is_some()
        || arch.attention.temperature.is_some()
}

/// Whether attention is computed row by row, since the other kernels for it lack its head size or its cap, or take a row's keys and values for
/// the layer's own and for two.
pub(crate) fn attention(arch: &Architecture) -> bool {
    let lacks =
        |heads: Heads| !attend::HEAD_DIMS.contains(&heads.head_dim) || !heads.keeps() || !heads.has_values();
    arch.attention.score_cap.is_some() || heads::all(arch).any(lacks)
}

/// Whether what is added to the residual stream is more than a product.
pub(crate) fn terms(arch: &Architecture) -> bool {
    arch.scales.residual != 1.0 || arch.has_post_norms
}
