//! Latent attention, for generated rows and for prompts: what stands between its products.
//!
//! Each head has matrices of its own, which products take as they take experts' matrices: all rows choose all of them. A column is a head of a row.

use model::KvType;
use model::architecture::{Latent, Mixer};

use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::attend_rows::AttendRowsArgs;
use crate::launch::latent::{self, HeadTablesArgs, LatentPlaceArgs};
use crate::placement::place::LatentPlace;
use crate::step::buffers::{HeadTables, LatentBuffers};
use crate::step::network::Network;

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
