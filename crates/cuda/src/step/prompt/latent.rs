//! Latent attention for prompt rows.

use model::architecture::Latent;
use model::stage::Stage;

use super::{Prompt, n_term, whole};
use crate::args::NormArgs;
use crate::driver::DevicePtr;
use crate::error::CudaError;
use crate::launch::prompt_gemm::{PromptEpilogue, PromptGemmArgs};
use crate::placement::place::{LatentPlace, QueryRowPlace, Tiles};
use crate::step::buffers::PromptLatent;
use crate::step::network::Network;
use crate::step::observe::{Observer, Rows};

impl Prompt<'_> {
    /// The tables of products by head, where the model has any.
    pub(super) fn head_tables(&self) -> Result<(), CudaError> {
        let network = self.network;
        match network.buffers.prompt.latent {
            Some(latent) => network.head_tables(self.stream, latent.rows.tables, self.n_row),
            None => Ok(()),
        }
    }

    pub(super) fn latent(
        &self,
        (n, place): (usize, &LatentPlace),
        ((of_normed, of_mixed), is_output_packed): ((usize, usize), bool),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.prompt);
        let latent =
            buffers.latent.unwrap_or_else(|| unreachable!("a model with latent attention has its buffers"));
        let (rows, n_row) = (latent.rows, self.n_row);
        let Latent { n_head, n_rot, n_value, .. } = network.latent_of(n);
        let heads = network.heads_of(n);
        let (to_queries, n_term) = match &place.q_row {
            Some(row) => self.query_row(row, of_normed, latent, place)?,
            None => (buffers.normed, of_normed),
        };
        self.store_of(to_queries, whole(&place.plain, n_term), rows.plain)?;
        self.store_of(to_queries, whole(&place.rotated, n_term), rows.rotated)?;
        self.store(whole(&place.kept, of_normed), rows.kept)?;
        let by_head = |tiles: &Tiles, x: DevicePtr, to: (DevicePtr, usize, usize)| {
            self.product_by_head(latent, (tiles, x), to)
        };
        by_head(&place.k, rows.plain, (buffers.q, heads.head_dim, n_rot))?;
        network.place_latent(self.stream, (n, place), &rows, (buffers.q, buffers.rows, n_row))?;
        observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, heads.n_q()))?;
        let found = (buffers.q, rows.found, buffers.rows);
        network.attend_latent(self.stream, n, found, (n_row, None))?;
        by_head(&place.v, rows.found, (rows.mixed, n_value, 0))?;
        self.round((rows.mixed, n_head * n_value), (buffers.attended, of_mixed, is_output_packed))
    }

    /// The row that queries are made of, normalised, and how many terms it has.
    fn query_row(
        &self,
        row: &QueryRowPlace,
        of_normed: usize,
        latent: PromptLatent,
        place: &LatentPlace,
    ) -> Result<(DevicePtr, usize), CudaError> {
        let (network, x) = (self.network, latent.rows.q_row);
        self.store(whole(&row.map, of_normed), x)?;
        let n_term = n_term(place.queries());
        let norm = NormArgs {
            n_embd: row.map.n_row as i32,
            out: latent.q_row,
            out_terms: n_term as i32,
            ..network.norm(row.norm, x)
        };
        network.launch_norm(self.stream, self.n_row, &norm)?;
        Ok((latent.q_row, n_term))
    }

    /// Each head's values, `[n_row, n_head, tiles.n_in]`, through its own matrix: to value `first` on of each `ld`.
    fn product_by_head(
        &self,
        latent: PromptLatent,
        (tiles, x): (&Tiles, DevicePtr),
        (out, ld, first): (DevicePtr, usize, usize),
    ) -> Result<(), CudaError> {
        let tables = latent.rows.tables;
        let slice = whole(tiles, n_term([tiles]));
        let n = self.n_row * tables.n_head;
        let round = NormArgs {
            source: tables.entries,
            out: latent.by_head,
            out_terms: slice.n_term as i32,
            ..Network::plain_rows(x, tiles.n_in)
        };
        self.network.launch_norm(self.stream, n, &round)?;
        let args = PromptGemmArgs {
            a: latent.by_head,
            bias: self.network.at_maybe(tiles.bias),
            out,
            uses: tables.entries,
            weights: tables.ones,
            m: n as i32,
            ld: ld as i32,
            column: first as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.expert_product(PromptEpilogue::Weighted, slice, (tables.offsets, tables.n_head), &args)
    }
}
