//! What memory does latent attention need in a step?

use model::KvType;
use model::architecture::{Architecture, Latent, Mixer};

use crate::driver::DevicePtr;
use crate::memory::taker::Taker;
use crate::sizes::Sizes;

/// Which columns each head's matrix has; see latent.cu.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadTables {
    /// `[n_head + 1]`.
    pub(crate) active: DevicePtr,
    /// `[n_head + 1]`.
    pub(crate) offsets: DevicePtr,
    /// `[n_head, n_row]`: of a row and a head.
    pub(crate) entries: DevicePtr,
    /// `[n_row * n_head]` float32: what results are multiplied by.
    pub(crate) ones: DevicePtr,
    /// The same in all layers.
    pub(crate) n_head: usize,
}

/// Buffers of latent attention: rows of float32, of up to so many rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentBuffers {
    pub(crate) tables: HeadTables,
    /// `[n_row, q_rank]`: what queries are made of, before its norm.
    pub(crate) q_row: DevicePtr,
    /// `[n_row, n_head, n_plain]`.
    pub(crate) plain: DevicePtr,
    /// `[n_row, n_head, n_rot]`.
    pub(crate) rotated: DevicePtr,
    /// `[n_row, kv_rank + n_rot]`: what is kept, before norm and rotation.
    pub(crate) kept: DevicePtr,
    /// `[n_row, n_rot + kv_rank]`: what is kept, for a cache of Q8_0.
    pub(crate) own: DevicePtr,
    /// `[n_row, n_head, kv_rank]`: what attention found.
    pub(crate) found: DevicePtr,
    /// `[n_row, n_head, n_value]`: the result.
    pub(crate) mixed: DevicePtr,
}

/// The widest of all layers' latent attentions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Widths {
    pub(crate) n_head: usize,
    pub(crate) q_rank: usize,
    /// Values of a head that a product by head reads.
    pub(crate) by_head: usize,
    plain: usize,
    rotated: usize,
    kept: usize,
    found: usize,
    mixed: usize,
}

impl Widths {
    /// Those of a model; `None` where it has no latent attention.
    pub(crate) fn of(arch: &Architecture) -> Option<Widths> {
        let all = arch.mixers.iter().filter_map(|mixer| match mixer {
            Mixer::Latent(latent) => Some(Widths::of_layer(*latent)),
            _ => None,
        });
        all.reduce(|a, b| Widths {
            n_head: a.n_head.max(b.n_head),
            q_rank: a.q_rank.max(b.q_rank),
            by_head: a.by_head.max(b.by_head),
            plain: a.plain.max(b.plain),
            rotated: a.rotated.max(b.rotated),
            kept: a.kept.max(b.kept),
            found: a.found.max(b.found),
            mixed: a.mixed.max(b.mixed),
        })
    }

    fn of_layer(Latent { n_head, q_rank, kv_rank, n_rot, n_plain, n_value }: Latent) -> Widths {
        Widths {
            n_head,
            q_rank: q_rank.unwrap_or(0),
            by_head: n_plain.max(kv_rank),
            plain: n_head * n_plain,
            rotated: n_head * n_rot,
            kept: kv_rank + n_rot,
            found: n_head * kv_rank,
            mixed: n_head * n_value,
        }
    }
}

impl LatentBuffers {
    pub(crate) fn take(taker: &mut Taker, n_row: usize, (widths, sizes): (Widths, &Sizes)) -> LatentBuffers {
        let Widths { n_head, q_rank, plain, rotated, kept, found, mixed, .. } = widths;
        let own = if sizes.kv_type == KvType::Q8_0 { kept } else { 0 };
        let mut rows = |n_value: usize| taker.take(n_row.saturating_mul(n_value), 4);
        LatentBuffers {
            q_row: rows(q_rank),
            plain: rows(plain),
            rotated: rows(rotated),
            kept: rows(kept),
            own: rows(own),
            found: rows(found),
            mixed: rows(mixed),
            tables: HeadTables {
                entries: rows(n_head),
                ones: rows(n_head),
                active: taker.take(n_head + 1, 4),
                offsets: taker.take(n_head + 1, 4),
                n_head,
            },
        }
    }
}
