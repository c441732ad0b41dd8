//! Is this latent attention one that the kernels can compute?

use model::architecture::{Architecture, Latent, Mixer, Position};
use model::weights::{KeyMaps, LatentWeights, Linear};

use super::sizes::{linear, norm};
use crate::launch::attend_rows::{MAX_HEAD_DIM, MAX_KEY, STEP};
use crate::placement::place::unsupported::{Unsupported, unsupported};

/// A grid has so many heads, and a queue of their products so many matrices.
const MOST_HEADS: usize = 1024;

/// Widths of matrices are whole blocks, which activations are.
const BLOCK: usize = 32;

/// Values in a head, and the width of the row that queries are made of.
const MOST_VALUES: usize = 4096;
const MOST_WIDTH: usize = 1 << 16;

/// The sizes of one layer.
pub(super) fn sizes(sizes: Latent) -> Result<(), Unsupported> {
    let Latent { n_head, q_rank, kv_rank, n_rot, n_plain, n_value } = sizes;
    if !(1..=MOST_HEADS).contains(&n_head) {
        return unsupported("heads of latent attention", format!("from 1 to {MOST_HEADS}"), n_head);
    }
    for (what, n, (of, most)) in [
        ("row that queries are made of", q_rank.unwrap_or(BLOCK), (BLOCK, MOST_WIDTH)),
        ("row that keys and values are made of", kv_rank, (BLOCK, MAX_HEAD_DIM)),
        ("part of a head without position", n_plain, (BLOCK, MOST_VALUES)),
        ("part of a head that is rotated", n_rot, (STEP, MAX_KEY - MAX_HEAD_DIM)),
        ("values of a head", n_value, (STEP, MOST_VALUES)),
    ] {
        if n == 0 || n % of != 0 || n > most {
            return unsupported(what, format!("a multiple of {of} up to {most}"), n);
        }
    }
    Ok(())
}

/// What all layers with latent attention have in common.
pub(super) fn choices(arch: &Architecture) -> Result<(), Unsupported> {
    let layers = || {
        arch.mixers.iter().enumerate().filter_map(|(layer, mixer)| match mixer {
            Mixer::Latent(latent) => Some((layer, *latent)),
            _ => None,
        })
    };
    let Some((_, first)) = layers().next() else { return Ok(()) };
    if let Some((_, other)) = layers().find(|(_, latent)| latent.n_head != first.n_head) {
        let expected = format!("in all layers {}", first.n_head);
        return unsupported("heads of latent attention", expected, other.n_head);
    }
    let attention = &arch.attention;
    if attention.sinks
        || attention.gated
        || attention.v_norm
        || attention.qk_norm.is_some()
        || attention.temperature.is_some()
    {
        let expected = "no sinks, gates, temperature or norms of heads";
        return unsupported("latent attention", expected, format!("{attention:?}"));
    }
    let Position::Rope(ropes) = &arch.position else { return Ok(()) };
    for (layer, latent) in layers() {
        let kind = ropes.layers.get(layer).copied().flatten().and_then(|kind| ropes.kinds.get(kind));
        if let Some(rope) = kind.filter(|rope| rope.n_rot != latent.n_rot) {
            return unsupported("rotated values of a head", latent.n_rot, rope.n_rot);
        }
    }
    Ok(())
}

/// A layer's tensors.
pub(super) fn weights(n_embd: usize, sizes: Latent, weights: &LatentWeights) -> Result<(), Unsupported> {
    let Latent { n_head, q_rank, kv_rank, n_rot, n_plain, n_value } = sizes;
    let LatentWeights { q_row, q, kv, kv_norm, k, v, output } = weights;
    if q_row.is_some() != q_rank.is_some() {
        return unsupported("row that queries are made of", format!("{q_rank:?}"), format!("{q_row:?}"));
    }
    if let (Some(row), Some(rank)) = (q_row, q_rank) {
        linear(&row.map, [rank, n_embd])?;
        norm(&row.norm, rank)?;
    }
    linear(q, [n_head * sizes.head_dim(), q_rank.unwrap_or(n_embd)])?;
    linear(kv, [kv_rank + n_rot, n_embd])?;
    norm(kv_norm, kv_rank)?;
    match k {
        KeyMaps::OfQueries(maps) => of_heads(maps, (n_head, [kv_rank, n_plain]))?,
        KeyMaps::OfKeys(maps) => of_heads(maps, (n_head, [n_plain, kv_rank]))?,
    }
    of_heads(v, (n_head, [n_value, kv_rank]))?;
    linear(output, [n_embd, n_head * n_value])?;
    let (KeyMaps::OfQueries(k) | KeyMaps::OfKeys(k)) = k;
    let linears = q_row.iter().map(|row| &row.map).chain([q, kv]).chain(k).chain(v);
    let norms = q_row.iter().map(|row| &row.norm).chain([kv_norm]);
    if linears.into_iter().any(|linear| linear.bias.is_some())
        || norms.into_iter().any(|norm| norm.bias.is_some())
    {
        return unsupported("bias of latent attention", "none but of the output", "one");
    }
    Ok(())
}

/// A matrix for each head, all of one format.
fn of_heads(maps: &[Linear], (n_head, sizes): (usize, [usize; 2])) -> Result<(), Unsupported> {
    if maps.len() != n_head {
        return unsupported("matrices of heads", n_head, maps.len());
    }
    for map in maps {
        linear(map, sizes)?;
        if map.weight.format != maps[0].weight.format {
            let expected = format!("of one format, {}", maps[0].weight.format);
            return unsupported("matrices of heads", expected, format!("{:?}", map.weight));
        }
    }
    Ok(())
}
