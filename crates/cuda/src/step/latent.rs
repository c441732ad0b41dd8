//! Latent attention, for generated rows and for prompts: its buffers, and what stands between its products.
//!
//! Each head has matrices of its own, which products take as they take experts' matrices: all rows choose all of them. A column is a head of a row.

use model::KvType;
use model::architecture::{Architecture, Latent, Mixer};

use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::attend_rows::AttendRowsArgs;
use crate::launch::latent::{self, HeadTablesArgs, LatentPlaceArgs};
use crate::placement::place::LatentPlace;
use crate::step::buffers::Taker;
use crate::step::network::Network;
use crate::step::options::Sizes;

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

impl Network {
    /// A layer's latent attention; it has one, as its weights do.
    pub(crate) fn latent_of(&self, layer: usize) -> Latent {
        match self.arch.mixers[layer] {
            Mixer::Latent(latent) => latent,
            _ => unreachable!("layer {layer} has latent attention"),
        }
    }

    /// Fills the tables for `n_row` rows.
    pub(crate) fn head_tables(
        &self,
        stream: &Stream,
        tables: HeadTables,
        n_row: usize,
    ) -> Result<(), CudaError> {
        let HeadTables { active, offsets, entries, ones, n_head } = tables;
        let (n_row, n_head) = (n_row as i32, n_head as i32);
        let args = HeadTablesArgs { active, offsets, entries, ones, n_row, n_head };
        self.kernels.launch(stream, &latent::tables(&args), &args)
    }

    /// Turns the parts of queries and keys that have a position, and keeps the rows; `q` is `[n_row, n_head, n_rot + kv_rank]`.
    pub(crate) fn place_latent(
        &self,
        stream: &Stream,
        (layer, place): (usize, &LatentPlace),
        buffers: &LatentBuffers,
        (q, rows, n_row): (DevicePtr, DevicePtr, usize),
    ) -> Result<(), CudaError> {
        let Latent { n_head, kv_rank, n_rot, .. } = self.latent_of(layer);
        let placing = self.placing(layer, DevicePtr(0), rows);
        let own = if self.sizes.kv_type == KvType::Q8_0 { buffers.own } else { DevicePtr(0) };
        let args = LatentPlaceArgs {
            rotated: buffers.rotated,
            kept: buffers.kept,
            norm: self.at(place.norm),
            q,
            own,
            cache: placing.k_cache,
            rows,
            page_tables: placing.page_tables,
            turns: placing.turns,
            n_head: n_head as i32,
            n_rot: n_rot as i32,
            n_rank: kv_rank as i32,
            max_pages: placing.max_pages,
            turning: placing.half_rot,
            adjacent: placing.adjacent,
            eps: self.arch.norm.eps,
            reserved: 0,
        };
        self.kernels.launch(stream, &latent::place(n_row), &args)?;
        self.keep_q8(stream, layer, (buffers.own, 0), (rows, n_row))
    }

    /// Attention of those queries over the kept rows, of which values are a part, into `found`. Generated rows are at up to `n_position` positions.
    pub(crate) fn attend_latent(
        &self,
        stream: &Stream,
        layer: usize,
        (q, found, rows): (DevicePtr, DevicePtr, DevicePtr),
        (n_row, n_position): (usize, Option<usize>),
    ) -> Result<(), CudaError> {
        let Latent { kv_rank, n_rot, .. } = self.latent_of(layer);
        let args = AttendRowsArgs {
            x: q,
            out: found,
            n_value: kv_rank as i32,
            value_at: n_rot as i32,
            ..self.attending(layer, (rows, n_position))
        };
        self.launch_attend_rows(stream, &args, (n_row, n_position))
    }
}
