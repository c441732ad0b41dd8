//! Prompt rows: many rows of a few sequences through all layers.
//!
//! Weights are unpacked to float16 a slab at a time, small enough to stay in the L2 cache, and multiplied on tensor cores. Launches are
//! not captured: each is long.
//!
//! Activations are float16. Where the weights are floats they are two float16 terms, `[high, low]` in a row twice as wide, both multiplied with
//! the same weights: what rounding them once would add is more than such a model's own rounding.

use model::architecture::{FeedForward, FeedForwardKind};
use model::stage::Stage;

use crate::apart;
use crate::args::{NormArgs, PlaceArgs, UnpackArgs};
use crate::buffers::{Forms, Routing, SLAB_BYTES};
use crate::driver::{DevicePtr, HalfMatrix, Stream};
use crate::error::CudaError;
use crate::heads;
use crate::kernels::Launch;
use crate::launch::prompt_gemm::{
    self, Instruction, PromptEpilogue, PromptGemmArgs, PromptGemmTmaArgs, Shape, Tile,
};
use crate::launch::route_prompt::{GatherPromptArgs, RoutePromptArgs};
use crate::launch::{attend, kv};
use crate::layout::{TILE, is_float, suffix};
use crate::network::Network;
use crate::observe::{Observer, Rows};
use crate::place::{FfnPlace, LayerPlace, NormPlace, RouterPlace, Tiles};

/// The feed-forward's hidden rows are stored divided by this: float16 ends at 65,504.
const HIDDEN_SCALE: f32 = 8.0;

/// Columns that a product multiplies at a time.
const STEP: usize = 64;

/// What prompt rows run on.
pub(crate) struct Prompt<'a> {
    pub(crate) network: &'a Network,
    pub(crate) stream: &'a Stream,
    /// Rows of this step.
    pub(crate) n_row: usize,
    /// The step's spans, as the attention wants them.
    pub(crate) spans: &'a [attend::PromptSpan],
}

/// Rows of a matrix as tiles, from `first` on.
#[derive(Clone, Copy)]
struct Slice<'t> {
    tiles: &'t Tiles,
    first: usize,
    n_tile: usize,
    /// Whether RoPE's pairs are to be put back where they belong.
    heads: bool,
    /// Float16 terms of the activations.
    n_term: usize,
}

impl Slice<'_> {
    /// How often a row's values stand in the slab: products go through its columns again for each term, if they come in whole steps.
    fn n_copy(&self) -> usize {
        if self.tiles.n_in.is_multiple_of(STEP) { 1 } else { self.n_term }
    }

    /// Values of a row of the slab.
    fn w_k(&self) -> usize {
        self.n_copy() * self.tiles.n_in
    }
}

/// How many float16 terms activations have that these matrices are multiplied with.
fn n_term<'a>(readers: impl IntoIterator<Item = &'a Tiles>) -> usize {
    if readers.into_iter().any(|tiles| is_float(tiles.format)) { 2 } else { 1 }
}

impl Prompt<'_> {
    /// All layers: leaves the residual stream after the last in the buffers.
    pub(crate) fn layers(&self, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let last = network.buffers.shared.sample_prompt.last;
        network.embed(self.stream, (buffers.rows, last, buffers.x), [self.n_row, 1])?;
        let x = Rows::float(network.buffers.prompt.x, self.n_row, network.arch.n_embd);
        observer.see(Stage::Embed, 0, x)?;
        for (n, layer) in network.layers.iter().enumerate() {
            self.attention(n, layer, observer)?;
            observer.see(Stage::AttnOut, n, x)?;
            match &layer.ffn {
                FfnPlace::Dense { input, down } => self.dense(n, layer, (input, down), observer)?,
                FfnPlace::Experts { router, input, down } => {
                    self.experts(n, layer, (router, input, down), observer)?;
                }
            }
            network.scale_layer(self.stream, n, (buffers.x, self.n_row))?;
            observer.see(Stage::FfnOut, n, x)?;
        }
        Ok(())
    }

    fn attention(&self, n: usize, layer: &LayerPlace, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let network = self.network;
        let (arch, buffers) = (&network.arch, &network.buffers.prompt);
        let heads = network.heads_of(n);
        let n_q = heads.n_q();
        let of_qkv = n_term(layer.qkv.runs.iter().map(|(_, tiles)| tiles));
        let of_attended = n_term([&layer.attn_output]);
        let mut norm = network.norm(layer.attn_norm, buffers.x);
        (norm.out, norm.out_terms) = (buffers.normed, of_qkv as i32);
        network.launch_norm(self.stream, self.n_row, &norm)?;

        let ld = heads::n_qkv(heads);
        let heads_are_apart = apart::heads(arch);
        for (first_row, tiles) in &layer.qkv.runs {
            // Queries and keys stand in pairs, values do not.
            let in_pairs = if heads_are_apart { 0 } else { n_q + heads.n_kv() };
            let n_heads = in_pairs.saturating_sub(*first_row).min(tiles.n_row) / TILE;
            for slice in [
                Slice { tiles, first: 0, n_tile: n_heads, heads: true, n_term: of_qkv },
                Slice {
                    first: n_heads,
                    n_tile: tiles.n_tile - n_heads,
                    heads: false,
                    ..whole(tiles, of_qkv)
                },
            ] {
                let row = first_row + slice.first * TILE;
                let args = PromptGemmArgs {
                    a: buffers.normed,
                    bias: layer.qkv.natural_bias.map_or(DevicePtr(0), |at| network.at(at + 4 * row as u64)),
                    out: buffers.qkv,
                    m: self.n_row as i32,
                    ld: ld as i32,
                    column: row as i32,
                    scale: 1.0,
                    ..PromptGemmArgs::default()
                };
                self.product(PromptEpilogue::Store, slice, &args)?;
            }
        }
        network.normalise_heads(self.stream, n, (buffers.qkv, self.n_row))?;
        self.attend(n, layer, of_attended, observer)?;
        let attended = Rows::half(buffers.attended, [self.n_row, of_attended, n_q], 1.0);
        observer.see(Stage::Attend, n, attended)?;

        let args = PromptGemmArgs {
            a: buffers.attended,
            bias: network.at_maybe(layer.attn_output.bias),
            out: buffers.x,
            m: self.n_row as i32,
            ld: arch.n_embd as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.add(whole(&layer.attn_output, of_attended), &args, layer.attn_post_norm)
    }

    /// Turns and places queries, keys and values, and attends: results of `n_term` terms.
    fn attend(
        &self,
        n: usize,
        layer: &LayerPlace,
        n_term: usize,
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (heads, buffers) = (network.heads_of(n), &network.buffers.prompt);
        let (n_row, n_q) = (self.n_row, heads.n_q());
        let by_rows = apart::attention(&network.arch);
        let none = DevicePtr(0);
        let (q, q_floats) = if by_rows { (none, buffers.q) } else { (buffers.q, none) };
        let q_terms = n_term as i32;
        let args = PlaceArgs { q, q_floats, q_terms, ..network.placing(n, buffers.qkv, buffers.rows) };
        network.kernels.launch(self.stream, &Launch::new("place_rows", [n_row as u32, 1], 256), &args)?;
        if by_rows {
            observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, n_q))?;
            network.attend_rows(self.stream, n, (buffers.qkv, buffers.q, buffers.rows), (n_row, None))?;
            let (out, out_terms) = (buffers.attended, n_term as i32);
            let args = NormArgs { out, out_terms, ..Network::plain_rows(buffers.q, n_q) };
            return network.launch_norm(self.stream, n_row, &args);
        }
        observer.see(Stage::Qkv, n, Rows::half(buffers.q, [n_row, n_term, n_q], 1.0))?;

        let (k_cache, v_cache) = network.kv(n);
        let [k_cache, v_cache] = match network.unpacked_kv() {
            Some(unpacked) => self.through_q8(n, [k_cache, v_cache], unpacked)?,
            None => [k_cache, v_cache],
        };
        let args = attend::AttendPromptArgs {
            q: buffers.q,
            k_cache,
            v_cache,
            spans: buffers.spans,
            page_tables: network.buffers.shared.page_tables,
            out: buffers.attended,
            sinks: network.at_maybe(layer.sinks),
            n_span: self.spans.len() as i32,
            n_head: heads.n_head as i32,
            n_kv_head: heads.n_kv_head as i32,
            max_pages: network.max_pages() as i32,
            window: network.window(n),
            scale: network.arch.attention.scale,
        };
        let launch = attend::prompt_launch(heads.head_dim, n_term, self.spans, &args);
        network.kernels.launch(self.stream, &launch, &args)
    }

    /// Writes the rows' keys and values to a cache of Q8_0, and decodes from it all that they see.
    fn through_q8(
        &self,
        n: usize,
        [k_cache, v_cache]: [DevicePtr; 2],
        unpacked: [DevicePtr; 2],
    ) -> Result<[DevicePtr; 2], CudaError> {
        let network = self.network;
        let (heads, buffers) = (network.heads_of(n), &network.buffers.prompt);
        let (n_kv_head, head_dim) = (heads.n_kv_head as i32, heads.head_dim as i32);
        let max_pages = network.max_pages() as i32;
        let page_tables = network.buffers.shared.page_tables;
        let args = kv::KvStoreArgs {
            qkv: buffers.qkv,
            k_cache,
            v_cache,
            rows: buffers.rows,
            page_tables,
            n_q: heads.n_q() as i32,
            n_kv_head,
            head_dim,
            max_pages,
        };
        network.kernels.launch(self.stream, &kv::store_launch(self.n_row), &args)?;
        let [k, v] = unpacked;
        let window = network.window(n);
        let spans = buffers.spans;
        let args = kv::KvUnpackArgs {
            k_cache,
            v_cache,
            k,
            v,
            spans,
            page_tables,
            n_kv_head,
            head_dim,
            max_pages,
            window,
        };
        network.kernels.launch(self.stream, &kv::unpack_launch(self.spans, &args), &args)?;
        Ok(unpacked)
    }

    fn dense(
        &self,
        n: usize,
        layer: &LayerPlace,
        (input, down): (&Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (arch, buffers) = (&network.arch, &network.buffers.prompt);
        let FeedForward { kind, n_ff, activation } = arch.feed_forward[n];
        let (of_normed, of_hidden) = (n_term([input]), n_term([down]));
        let mut norm = network.norm(layer.ffn_norm, buffers.x);
        (norm.out, norm.out_terms) = (buffers.normed, of_normed as i32);
        network.launch_norm(self.stream, self.n_row, &norm)?;
        let args = PromptGemmArgs {
            a: buffers.normed,
            bias: network.at_maybe(input.bias),
            out: buffers.hidden,
            m: self.n_row as i32,
            ld: (of_hidden * n_ff) as i32,
            low: ((of_hidden - 1) * n_ff) as i32,
            act: activation.into(),
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        let epilogue =
            if kind == FeedForwardKind::Plain { PromptEpilogue::Plain } else { PromptEpilogue::Gated };
        self.product(epilogue, whole(input, of_normed), &args)?;
        let hidden = Rows::half(buffers.hidden, [self.n_row, of_hidden, n_ff], HIDDEN_SCALE);
        observer.see(Stage::FfnIn, n, hidden)?;
        let args = PromptGemmArgs {
            a: buffers.hidden,
            bias: network.at_maybe(down.bias),
            out: buffers.x,
            m: self.n_row as i32,
            ld: arch.n_embd as i32,
            scale: HIDDEN_SCALE,
            ..PromptGemmArgs::default()
        };
        self.add(whole(down, of_hidden), &args, layer.ffn_post_norm)
    }

    /// A product that is added to the residual stream, after a norm of its own where there is one. `args` describes the sum.
    fn add(&self, slice: Slice<'_>, args: &PromptGemmArgs, post: Option<NormPlace>) -> Result<(), CudaError> {
        let Some(term) = self.network.buffers.prompt.term else {
            return self.product(PromptEpilogue::Residual, slice, args);
        };
        self.product(PromptEpilogue::Store, slice, &PromptGemmArgs { out: term, ..*args })?;
        self.network.add_term(self.stream, (args.out, term, self.n_row), post)
    }

    fn experts(
        &self,
        n: usize,
        layer: &LayerPlace,
        (router, input, down): (&RouterPlace, &Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (arch, buffers) = (&network.arch, &network.buffers.prompt);
        let (Some(routing), Some(router_input)) = (buffers.routing, buffers.router_input) else {
            return Ok(());
        };
        let (n_used, n_expert) = (network.n_used(), router.n_expert);
        let FeedForward { n_ff, activation, .. } = arch.feed_forward[n];
        let n_use = self.n_row * n_used;

        let (of_normed, of_hidden) = (n_term([input]), n_term([down]));
        // The router decides, so it reads float32 as it does for generated rows: near ties should fall the same way.
        let floats = Forms { floats: true, ints: false };
        let act = router_input.of(self.n_row, floats);
        let mut norm = network.norm(layer.ffn_norm, buffers.x);
        (norm.out, norm.out_terms, norm.act) = (buffers.normed, of_normed as i32, act);
        network.launch_norm(self.stream, self.n_row, &norm)?;
        network.launch_router(self.stream, router, (act.into(), routing.logits, self.n_row))?;

        let args = RoutePromptArgs {
            logits: routing.logits,
            weights: routing.weights,
            chosen: routing.chosen,
            uses: routing.entries,
            offsets: routing.offsets,
            n_row: self.n_row as i32,
            n_expert: n_expert as i32,
            n_used: n_used as i32,
            reserved: 0,
        };
        let kernels = &network.kernels;
        kernels.launch(
            self.stream,
            &Launch::new("route_prompt", [self.n_row.div_ceil(8) as u32, 1], 256),
            &args,
        )?;
        kernels.launch(self.stream, &Launch::new("route_prompt_sort", [n_expert as u32, 1], 1024), &args)?;
        let args = GatherPromptArgs {
            from: buffers.normed,
            uses: routing.entries,
            to: routing.gathered,
            n_used: n_used as i32,
            k: (of_normed * arch.n_embd) as i32,
        };
        kernels.launch(self.stream, &Launch::new("gather_prompt", [n_use as u32, 1], 128), &args)?;

        let args = PromptGemmArgs {
            a: routing.gathered,
            bias: network.at_maybe(input.bias),
            out: buffers.hidden,
            m: n_use as i32,
            ld: (of_hidden * n_ff) as i32,
            low: ((of_hidden - 1) * n_ff) as i32,
            act: activation.into(),
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.expert_product(PromptEpilogue::Gated, whole(input, of_normed), (&routing, n_expert), &args)?;
        let hidden = Rows::half(buffers.hidden, [n_use, of_hidden, n_ff], HIDDEN_SCALE);
        observer.see_ordered((Stage::FfnIn, n), hidden, routing.entries)?;
        let args = PromptGemmArgs {
            a: buffers.hidden,
            bias: network.at_maybe(down.bias),
            out: routing.parts,
            uses: routing.entries,
            weights: routing.weights,
            m: n_use as i32,
            ld: arch.n_embd as i32,
            scale: HIDDEN_SCALE,
            ..PromptGemmArgs::default()
        };
        self.expert_product(PromptEpilogue::Weighted, whole(down, of_hidden), (&routing, n_expert), &args)?;
        let mut add = network.norm(layer.ffn_norm, buffers.x);
        (add.parts, add.n_part) = (routing.parts, n_used as i32);
        network.launch_norm(self.stream, self.n_row, &add)
    }

    /// A product with some rows of a matrix, a slab at a time. `args` describes the whole: its input, output and bias from the slice's
    /// first row on.
    fn product(
        &self,
        epilogue: PromptEpilogue,
        slice: Slice<'_>,
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let network = self.network;
        // Whole heads, and whole groups of 64 rows of gate and up.
        let step = if slice.heads { network.heads.head_dim } else { 64 };
        let (k, w_k) = (slice.n_term * slice.tiles.n_in, slice.w_k());
        let most = SLAB_BYTES / (2 * w_k);
        let shape = Shape { n_matrix: 1, m: args.m as usize, n: slice.n_tile * TILE, k };
        let per_slab = prompt_gemm::slab_rows(shape, [step, most], self.instruction(), self.n_sm()) / TILE;
        for first in (0..slice.n_tile).step_by(per_slab) {
            let n_tile = per_slab.min(slice.n_tile - first);
            self.unpack(slice, slice.first + first, n_tile)?;
            let column = first * TILE / if epilogue == PromptEpilogue::Gated { 2 } else { 1 };
            // The last tile may have rows that are none.
            let n = (n_tile * TILE).min(slice.tiles.n_row - (slice.first + first) * TILE);
            let args = PromptGemmArgs {
                w: network.buffers.prompt.slab,
                bias: offset(args.bias, 4 * first * TILE),
                n: n as i32,
                k: k as i32,
                w_k: w_k as i32,
                column: args.column + column as i32,
                ..*args
            };
            self.gemm(epilogue, args.m as usize, &args)?;
        }
        Ok(())
    }

    /// Likewise with the matrices of all experts.
    fn expert_product(
        &self,
        epilogue: PromptEpilogue,
        all: Slice<'_>,
        (routing, n_expert): (&Routing, usize),
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let tiles = all.tiles;
        let (n, k, w_k) = (tiles.n_tile * TILE, all.n_term * tiles.n_in, all.w_k());
        let most = SLAB_BYTES / (2 * w_k);
        if n > most {
            return self.large_expert_product(epilogue, all, (routing, n_expert), args);
        }
        let per_slab = most / n;
        for first in (0..n_expert).step_by(per_slab) {
            let n_here = per_slab.min(n_expert - first);
            for e in 0..n_here {
                let expert = Tiles { at: tiles.at + (first + e) as u64 * tiles.expert_bytes, ..*tiles };
                let to = DevicePtr(self.network.buffers.prompt.slab.0 + (e * n * w_k * 2) as u64);
                self.unpack_to(whole(&expert, all.n_term), 0, tiles.n_tile, to)?;
            }
            let args = PromptGemmArgs {
                w: self.network.buffers.prompt.slab,
                bias: offset(args.bias, 4 * first * n),
                offsets: DevicePtr(routing.offsets.0 + 4 * first as u64),
                n: n as i32,
                k: k as i32,
                w_k: w_k as i32,
                n_expert: n_here as i32,
                ..*args
            };
            self.gemm(epilogue, (args.m as usize).div_ceil(n_expert), &args)?;
        }
        Ok(())
    }

    /// Likewise where the matrix of one expert fills more than a slab.
    fn large_expert_product(
        &self,
        epilogue: PromptEpilogue,
        all: Slice<'_>,
        (routing, n_expert): (&Routing, usize),
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let tiles = all.tiles;
        let (k, w_k) = (all.n_term * tiles.n_in, all.w_k());
        // Whole groups of 64 rows of gate and up.
        let per_slab = (SLAB_BYTES / (2 * w_k) / 64).max(1) * 64 / TILE;
        for e in 0..n_expert {
            let expert = Tiles { at: tiles.at + e as u64 * tiles.expert_bytes, ..*tiles };
            for first in (0..tiles.n_tile).step_by(per_slab) {
                let n_tile = per_slab.min(tiles.n_tile - first);
                self.unpack(whole(&expert, all.n_term), first, n_tile)?;
                let column = first * TILE / if epilogue == PromptEpilogue::Gated { 2 } else { 1 };
                let args = PromptGemmArgs {
                    w: self.network.buffers.prompt.slab,
                    bias: offset(args.bias, 4 * (e * tiles.n_tile + first) * TILE),
                    offsets: DevicePtr(routing.offsets.0 + 4 * e as u64),
                    n: (n_tile * TILE) as i32,
                    k: k as i32,
                    w_k: w_k as i32,
                    column: column as i32,
                    n_expert: 1,
                    ..*args
                };
                self.gemm(epilogue, (args.m as usize).div_ceil(n_expert), &args)?;
            }
        }
        Ok(())
    }

    fn instruction(&self) -> Instruction {
        Instruction::of(self.network.kernels.device().compute_capability(), crate::targets())
    }

    fn n_sm(&self) -> u32 {
        self.network.kernels.device().n_sm()
    }

    /// One launch; `m` rows are to be expected for a matrix.
    fn gemm(&self, epilogue: PromptEpilogue, m: usize, args: &PromptGemmArgs) -> Result<(), CudaError> {
        let (kernels, n_sm) = (&self.network.kernels, self.n_sm());
        let n_matrix = args.n_expert.max(1) as usize;
        let (n, k) = (args.n as usize, args.k as usize);
        let tile = Tile::choose(Shape { n_matrix, m, n, k }, self.instruction(), n_sm);
        let launch = tile.launch(epilogue, args, n_sm);
        match tile.instruction {
            Instruction::Mma => kernels.launch(self.stream, &launch, args),
            Instruction::Wgmma => {
                let map = |address, [n_row, n_column]: [usize; 2], box_rows: usize| {
                    let matrix = HalfMatrix { address, n_row, n_column };
                    kernels.device().tensor_map(matrix, box_rows as u32)
                };
                let args = PromptGemmTmaArgs {
                    a_map: map(args.a, [args.m as usize, k], tile.n_row)?,
                    w_map: map(args.w, [n_matrix * n, args.w_k as usize], tile.n_column)?,
                    gemm: *args,
                    padding: [0; 2],
                };
                kernels.launch(self.stream, &launch, &args)
            }
        }
    }

    fn unpack(&self, slice: Slice<'_>, first: usize, n_tile: usize) -> Result<(), CudaError> {
        self.unpack_to(slice, first, n_tile, self.network.buffers.prompt.slab)
    }

    fn unpack_to(
        &self,
        slice: Slice<'_>,
        first: usize,
        n_tile: usize,
        out: DevicePtr,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let args = UnpackArgs {
            w: network.at(slice.tiles.at),
            out,
            first_tile: first as i32,
            n_in: slice.tiles.n_in as i32,
            n_unit: slice.tiles.n_unit as i32,
            head_dim: if slice.heads { network.heads.head_dim as i32 } else { 0 },
            half_rot: network.heads.half_rot as i32,
            adjacent: i32::from(network.heads.adjacent),
            n_copy: slice.n_copy() as i32,
            reserved: 0,
        };
        let name = format!("unpack_{}", suffix(slice.tiles.format));
        let grid = [n_tile as u32, slice.tiles.n_unit.div_ceil(8) as u32];
        network.kernels.launch(self.stream, &Launch::new(name, grid, 128), &args)
    }

    /// Logits of the first `n` rows that the list of heads names, into the prompt's own buffer.
    pub(crate) fn logits(&self, n: usize) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let mut norm = network.norm(network.output_norm, buffers.x);
        let n_term = n_term([&network.output]);
        norm.source = buffers.heads;
        (norm.out, norm.out_terms) = (buffers.normed, n_term as i32);
        network.launch_norm(self.stream, n, &norm)?;
        let args = PromptGemmArgs {
            a: buffers.normed,
            bias: network.at_maybe(network.output.bias),
            out: buffers.logits,
            m: n as i32,
            ld: network.arch.n_vocab as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.product(PromptEpilogue::Store, whole(&network.output, n_term), &args)?;
        network.finish_logits(self.stream, buffers.logits, n)
    }
}

fn whole(tiles: &Tiles, n_term: usize) -> Slice<'_> {
    Slice { tiles, first: 0, n_tile: tiles.n_tile, heads: false, n_term }
}

fn offset(at: DevicePtr, bytes: usize) -> DevicePtr {
    if at == DevicePtr(0) { at } else { DevicePtr(at.0 + bytes as u64) }
}
