//! Latent attention for generated rows.

use model::architecture::Latent;
use model::stage::Stage;

use super::Decode;
use crate::args::{ActOut, Epilogue, NormArgs, ProductArgs};
use crate::driver::DevicePtr;
use crate::error::CudaError;
use crate::placement::place::{LatentPlace, QueryRowPlace, Tiles};
use crate::step::buffers::{Act, HeadTables, Input, LatentBuffers};
use crate::step::network::Network;
use crate::step::observe::{Observer, Rows};

impl Decode<'_> {
    /// The tables of products by head, where the model has any.
    pub(super) fn head_tables(&self) -> Result<(), CudaError> {
        let network = self.network;
        match network.buffers.decode.latent {
            Some(rows) => network.head_tables(self.stream, rows.tables, self.shape.n_row),
            None => Ok(()),
        }
    }

    pub(super) fn latent(
        &self,
        (n, place): (usize, &LatentPlace),
        (normed, out): (Input, ActOut),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.decode);
        let (Some(latent), Some(q_row), Some(by_head)) = (buffers.latent, buffers.q_row, buffers.by_head)
        else {
            unreachable!("a model with latent attention has its buffers")
        };
        let Latent { n_head, kv_rank, n_rot, n_plain, n_value, .. } = network.latent_of(n);
        let (heads, n_row) = (network.heads_of(n), self.shape.n_row);
        let to_queries = match &place.q_row {
            Some(row) => self.query_row(row, (normed, latent.q_row), q_row, place)?,
            None => normed,
        };
        self.store(&place.plain, to_queries, (latent.plain, n_head * n_plain))?;
        self.store(&place.rotated, to_queries, (latent.rotated, n_head * n_rot))?;
        self.store(&place.kept, normed, (latent.kept, kv_rank + n_rot))?;
        let by_head = (by_head, latent.tables);
        let absorbed = (buffers.q, heads.head_dim, n_rot);
        self.product_by_head(by_head, (&place.k, latent.plain), absorbed)?;
        network.place_latent(self.stream, (n, place), &latent, (buffers.q, buffers.rows, n_row))?;
        observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, heads.n_q()))?;
        let LatentBuffers { found, mixed, .. } = latent;
        let shape = (n_row, Some(self.shape.n_position));
        network.attend_latent(self.stream, n, (buffers.q, found, buffers.rows), shape)?;
        self.product_by_head(by_head, (&place.v, found), (mixed, n_value, 0))?;
        self.round((mixed, n_head * n_value), out)
    }

    /// The row that queries are made of, normalised.
    fn query_row(
        &self,
        row: &QueryRowPlace,
        (normed, to): (Input, DevicePtr),
        act: Act,
        place: &LatentPlace,
    ) -> Result<Input, CudaError> {
        let (network, n) = (self.network, row.map.n_row);
        self.store(&row.map, normed, (to, n))?;
        let act = act.narrow(n).of(self.shape.n_row, network.forms(place.queries()));
        let norm = NormArgs { n_embd: n as i32, act, ..network.norm(row.norm, to) };
        network.launch_norm_few(self.stream, self.shape.n_row, &norm)?;
        Ok(act.into())
    }

    /// Each head's values, `[n_row, n_head, tiles.n_in]`, through its own matrix: to value `first` on of each `ld`.
    fn product_by_head(
        &self,
        (act, tables): (Act, HeadTables),
        (tiles, x): (&Tiles, DevicePtr),
        (out, ld, first): (DevicePtr, usize, usize),
    ) -> Result<(), CudaError> {
        let (network, n_row) = (self.network, self.shape.n_row);
        let n_col = n_row * tables.n_head;
        let act = act.narrow(tiles.n_in).of(n_col, network.forms([tiles]));
        let round = NormArgs { act, ..Network::plain_rows(x, tiles.n_in) };
        network.launch_norm_few(self.stream, n_col, &round)?;
        let args = ProductArgs {
            out,
            ld_out: ld as i32,
            first_row: first as i32,
            active: tables.active,
            offsets: tables.offsets,
            entries: tables.entries,
            expert_bytes: tiles.expert_bytes,
            column_divisor: 1,
            ..network.product(tiles, act, Epilogue::Store)
        };
        network.launch_matrices(self.stream, tiles, (&args, [n_row, n_row], tables.n_head))
    }
}
