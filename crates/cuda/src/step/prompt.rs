//! Prompt rows: many rows of a few sequences through all layers.
//!
//! Weights are unpacked to float16 a slab at a time and multiplied on tensor cores. Launches are not captured: each is long.
//!
//! For many rows, a slab is small enough to stay in the L2 cache. Few rows have few tiles, so that most multiprocessors would have
//! none of such a slab: then a slab is as large as the buffer, and the time that memory takes for it is shorter than that. There are
//! two slabs in turn: on Hopper and later, one is unpacked while the product with the other runs (`unpack.cu`). On Hopper, weights of experts, and
//! all others for few rows, are unpacked in registers instead (`packed.rs`).
//!
//! Activations are float16. Where the weights are floats they are two float16 terms, `[high, low]` in a row twice as wide, both multiplied with
//! the same weights: what rounding them once would add is more than such a model's own rounding.

use model::stage::Stage;

use crate::args::{ActOut, NormArgs, PAGE, PlaceArgs, UnpackArgs};
use crate::driver::{DevicePtr, HalfMatrix, Stream};
use crate::error::CudaError;
use crate::launch::attend::{AttendPromptTmaArgs, PromptAttention};
use crate::launch::prompt_gemm::{
    self, Instruction, PromptEpilogue, PromptGemmArgs, PromptGemmTmaArgs, SLAB_BYTES, Shape, Tile,
};
use crate::launch::{attend, kv, unpack};
use crate::memory::layout::{TILE, prompt_terms};
use crate::placement::apart;
use crate::placement::heads;
use crate::placement::place::{AttentionPlace, LayerPlace, MixerPlace, NormPlace, Tiles};
use crate::step::buffers::Forms;
use crate::step::network::Network;
use crate::step::observe::{Observer, Rows};

mod feed_forward;
mod latent;
mod packed;
mod recurrent;

/// Columns that a product multiplies at a time.
const STEP: usize = 64;

/// Up to so many rows a slab may be larger than what stays in the L2 cache. Llama-3-8B on an H200: 1,024 rows are a fifth faster so,
/// 2,048 a thirtieth slower.
const FEW_ROWS: usize = 1024;

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
    /// Whether weights are unpacked in registers: activations are in the order for that.
    is_packed: bool,
}

impl Slice<'_> {
    /// Whether weights are unpacked in registers, if `is_so`.
    fn packed(self, is_so: bool) -> Self {
        Slice { is_packed: is_so, ..self }
    }

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
    readers.into_iter().map(|tiles| prompt_terms(tiles.format)).max().unwrap_or(1)
}

impl Prompt<'_> {
    /// All layers: leaves the residual stream after the last in the buffers.
    pub(crate) fn layers(&self, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let last = network.buffers.shared.sample_prompt.last;
        network.embed(self.stream, (buffers.rows, last, buffers.x), [self.n_row, 1])?;
        let x = Rows::float(network.buffers.prompt.x, self.n_row, network.arch.n_embd);
        self.per_layer_inputs()?;
        self.head_tables()?;
        observer.see(Stage::Embed, 0, x)?;
        for (n, layer) in network.layers.iter().enumerate() {
            self.mix(n, layer, observer)?;
            observer.see(Stage::AttnOut, n, x)?;
            self.feed_forward(n, layer, observer)?;
            self.per_layer(n, layer)?;
            network.scale_layer(self.stream, n, (buffers.x, self.n_row))?;
            observer.see(Stage::FfnOut, n, x)?;
        }
        Ok(())
    }

    /// The layers' inputs of the token itself, where they have any.
    fn per_layer_inputs(&self) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let (Some(place), Some(rows)) = (&network.per_layer, buffers.per_layer) else { return Ok(()) };
        let last = network.buffers.shared.sample_prompt.last;
        network.embed_per_layer(self.stream, (place, rows), (buffers.rows, last), self.n_row)?;
        let n_term = n_term([&place.model]);
        self.round((buffers.x, network.arch.n_embd), (buffers.normed, n_term, false))?;
        self.store(whole(&place.model, n_term), rows.product)?;
        network.per_layer_inputs(self.stream, (place, rows), self.n_row)
    }

    /// What a layer adds of its input.
    fn per_layer(&self, n: usize, layer: &LayerPlace) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.prompt);
        let (Some(place), Some(rows)) = (&layer.per_layer, buffers.per_layer) else { return Ok(()) };
        let (width, n_embd) = (place.gate.n_row, network.arch.n_embd);
        let (of_x, of_hidden) = (n_term([&place.gate]), n_term([&place.output]));
        self.round((buffers.x, n_embd), (buffers.normed, of_x, false))?;
        self.store(whole(&place.gate, of_x), rows.product)?;
        network.per_layer_gate(self.stream, (n, rows), [self.n_row, width])?;
        self.round((rows.product, width), (buffers.normed, of_hidden, false))?;
        let args = PromptGemmArgs {
            a: buffers.normed,
            bias: network.at_maybe(place.output.bias),
            out: buffers.x,
            m: self.n_row as i32,
            ld: n_embd as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.add(whole(&place.output, of_hidden), &args, Some(place.norm))
    }

    /// The mixer, and what it adds to the residual stream.
    fn mix(&self, n: usize, layer: &LayerPlace, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.prompt);
        let (of_normed, of_mixed) = (n_term(layer.mixer.readers()), n_term([&layer.attn_output]));
        let floats = buffers.floats.filter(|_| layer.mixer.reads_floats());
        let act = floats.map_or(ActOut::default(), |act| act.of(self.n_row, Forms::FLOATS));
        let packed @ [reads_packed, is_packed] = self.packs_mixer(n, layer);
        let mut norm = network.norm(layer.attn_norm, buffers.x);
        (norm.out, norm.out_terms, norm.act) = (buffers.normed, of_normed as i32, act);
        norm.even_then_odd = i32::from(reads_packed);
        network.launch_norm(self.stream, self.n_row, &norm)?;
        let terms = (of_normed, of_mixed);
        match &layer.mixer {
            MixerPlace::Attention(place) => self.attention((n, place), (terms, packed), observer)?,
            MixerPlace::Latent(place) => self.latent((n, place), (terms, is_packed), observer)?,
            MixerPlace::ShortConv(place) => self.short_conv((n, place), (terms, packed), observer)?,
            MixerPlace::DeltaRule(place) => {
                self.delta_rule((n, place, act.into()), (terms, packed), observer)?;
            }
        }
        let n_in = layer.attn_output.n_in;
        let attended = Rows::half(buffers.attended, [self.n_row, of_mixed, n_in], 1.0);
        observer.see(Stage::Attend, n, attended.even_then_odd(is_packed))?;
        let args = PromptGemmArgs {
            a: buffers.attended,
            bias: network.at_maybe(layer.attn_output.bias),
            out: buffers.x,
            m: self.n_row as i32,
            ld: network.arch.n_embd as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.add(whole(&layer.attn_output, of_mixed).packed(is_packed), &args, layer.attn_post_norm)
    }

    /// A product with the normalised rows as it is.
    fn store(&self, slice: Slice<'_>, out: DevicePtr) -> Result<(), CudaError> {
        self.store_of(self.network.buffers.prompt.normed, slice, out)
    }

    /// A product with any rows as it is.
    fn store_of(&self, a: DevicePtr, slice: Slice<'_>, out: DevicePtr) -> Result<(), CudaError> {
        let args = PromptGemmArgs {
            a,
            bias: self.network.at_maybe(slice.tiles.bias),
            out,
            m: self.n_row as i32,
            ld: slice.tiles.n_row as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.product(PromptEpilogue::Store, slice, &args)
    }

    /// Rows of `n` values as so many terms of float16; of one, in the order that weights unpacked in registers want if `even_then_odd`.
    fn round(
        &self,
        (rows, n): (DevicePtr, usize),
        (out, n_term, even_then_odd): (DevicePtr, usize, bool),
    ) -> Result<(), CudaError> {
        let even_then_odd = i32::from(even_then_odd);
        let args = NormArgs { out, out_terms: n_term as i32, even_then_odd, ..Network::plain_rows(rows, n) };
        self.network.launch_norm(self.stream, self.n_row, &args)
    }

    fn attention(
        &self,
        (n, place): (usize, &AttentionPlace),
        ((of_qkv, of_attended), [is_packed, is_output_packed]): ((usize, usize), [bool; 2]),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (arch, buffers) = (&network.arch, &network.buffers.prompt);
        let heads = network.heads_of(n);
        let n_q = heads.n_q();
        let ld = heads::n_qkv(heads);
        let heads_are_apart = apart::heads(arch);
        // Runs of rows follow each other.
        let slices: Vec<_> = place
            .qkv
            .runs
            .iter()
            .flat_map(|(first_row, tiles)| {
                // Queries and keys stand in pairs, values do not.
                let in_pairs = if heads_are_apart { 0 } else { n_q + heads.n_kv() };
                let n_tile = in_pairs.saturating_sub(*first_row).min(tiles.n_row) / TILE;
                let pairs = Slice { tiles, first: 0, n_tile, heads: true, n_term: of_qkv, is_packed };
                let rest = Slice { first: n_tile, n_tile: tiles.n_tile - n_tile, heads: false, ..pairs };
                [pairs, rest]
            })
            .collect();
        let args = PromptGemmArgs {
            a: buffers.normed,
            bias: place.qkv.natural_bias.map_or(DevicePtr(0), |at| network.at(at)),
            out: buffers.qkv,
            m: self.n_row as i32,
            ld: ld as i32,
            scale: 1.0,
            ..PromptGemmArgs::default()
        };
        self.products(PromptEpilogue::Store, &slices, &args)?;
        if let (Some(gate), Some(rows)) = (&place.gate, buffers.mixer) {
            self.store(whole(gate, of_qkv).packed(is_packed), rows.gate)?;
        }
        network.normalise_rows(self.stream, n, (buffers.qkv, self.n_row))?;
        self.attend((n, place), (of_attended, is_output_packed), observer)
    }

    /// Turns and places queries, keys and values, and attends: results of `n_term` terms.
    fn attend(
        &self,
        (n, place): (usize, &AttentionPlace),
        (n_term, even_then_odd): (usize, bool),
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
        network.place_prompt(self.stream, n, (&args, n_row))?;
        if by_rows {
            observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, n_q))?;
            network.attend_rows(self.stream, n, (buffers.qkv, buffers.q, buffers.rows), (n_row, None))?;
            if let Some(rows) = buffers.mixer.filter(|_| place.gate.is_some()) {
                network.open_gates(self.stream, [buffers.q, rows.gate], [n_row, n_q])?;
            }
            return self.round((buffers.q, n_q), (buffers.attended, n_term, even_then_odd));
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
            page_tables: network.page_tables_of(n),
            out: buffers.attended,
            sinks: network.at_maybe(place.sinks),
            n_span: self.spans.len() as i32,
            n_head: heads.n_head as i32,
            n_kv_head: heads.n_kv_head as i32,
            max_pages: network.max_pages() as i32,
            window: network.window(n),
            scale: network.arch.attention.scale,
            even_then_odd: i32::from(even_then_odd),
            reserved: 0,
        };
        let attention = PromptAttention { head_dim: heads.head_dim, n_term, instruction: self.instruction() };
        let launch = attention.launch(self.spans, &args, (self.n_sm() as usize, network.sizes.attending));
        if attention.is_on_wgmma() {
            let map = |at| network.kernels.device().tensor_map(network.kv_matrix(n, at), PAGE as u32);
            let (k_map, v_map) = (map(k_cache)?, map(v_cache)?);
            let args = AttendPromptTmaArgs { k_map, v_map, a: args, padding: [0; 5] };
            network.kernels.launch(self.stream, &launch, &args)?;
        } else {
            network.kernels.launch(self.stream, &launch, &args)?;
        }
        match buffers.mixer.filter(|_| place.gate.is_some()) {
            Some(rows) => {
                let rows = [buffers.attended, rows.gate];
                network.open_gates_of_halves(self.stream, rows, [n_row, n_term, n_q])
            }
            None => Ok(()),
        }
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
        let page_tables = network.page_tables_of(n);
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

    /// A product that is added to the residual stream, after a norm of its own where there is one. `args` describes the sum.
    fn add(&self, slice: Slice<'_>, args: &PromptGemmArgs, post: Option<NormPlace>) -> Result<(), CudaError> {
        let Some(term) = self.network.buffers.prompt.term else {
            return self.product(PromptEpilogue::Residual, slice, args);
        };
        self.product(PromptEpilogue::Store, slice, &PromptGemmArgs { out: term, ..*args })?;
        self.network.add_term(self.stream, (args.out, term, self.n_row), post)
    }

    /// A product with some rows of a matrix, a slab at a time. `args` describes the whole: its input, output and bias from the slice's
    /// first row on.
    fn product(
        &self,
        epilogue: PromptEpilogue,
        slice: Slice<'_>,
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        self.products(epilogue, &[slice], args)
    }

    /// Likewise with rows of several matrices of one width as those of one matrix, one slice after the other. All but the last are of
    /// whole tiles, and of whole heads if one is.
    fn products(
        &self,
        epilogue: PromptEpilogue,
        slices: &[Slice<'_>],
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let buffers = &self.network.buffers.prompt;
        let [.., last] = slices else { return Ok(()) };
        if last.is_packed {
            return self.packed_products(epilogue, slices, args);
        }
        // Whole heads, and whole groups of 64 rows of gate and up.
        let has_heads = slices.iter().any(|slice| slice.heads && slice.n_tile > 0);
        let step = if has_heads { self.network.heads.head_dim } else { 64 };
        let (k, w_k) = (last.n_term * last.tiles.n_in, last.w_k());
        let m = args.m as usize;
        let most = if m > FEW_ROWS { SLAB_BYTES } else { buffers.slab_bytes } / (2 * w_k);
        let n_tile: usize = slices.iter().map(|slice| slice.n_tile).sum();
        // The last tile may have rows that are none.
        let n_row = n_tile * TILE - (last.tiles.n_tile * TILE - last.tiles.n_row).min(last.n_tile * TILE);
        let shape = Shape { n_matrix: 1, m, n: n_tile * TILE, k };
        let per_slab = self.slab_rows(shape, [step, most]) / TILE;
        for from in (0..n_tile).step_by(per_slab) {
            let slab = self.network.next_slab();
            let until = n_tile.min(from + per_slab);
            let mut before = 0;
            for slice in slices {
                let [first, end] = [from, until].map(|tile| tile.saturating_sub(before).min(slice.n_tile));
                if first < end {
                    let to = slab.offset(((before + first - from) * TILE * 2 * w_k) as u64);
                    self.unpack(*slice, [slice.first + first, end - first], to)?;
                }
                before += slice.n_tile;
            }
            let column = from * TILE / if epilogue == PromptEpilogue::Gated { 2 } else { 1 };
            let args = PromptGemmArgs {
                w: slab,
                bias: offset(args.bias, 4 * from * TILE),
                n: (n_row.min(until * TILE) - from * TILE) as i32,
                k: k as i32,
                w_k: w_k as i32,
                column: args.column + column as i32,
                ..*args
            };
            self.gemm(epilogue, m, &args)?;
        }
        Ok(())
    }

    /// See [`prompt_gemm::slab_rows`], whose answers are kept: it tries hundreds of sizes.
    fn slab_rows(&self, shape: Shape, bounds: [usize; 2]) -> usize {
        let rows = || prompt_gemm::slab_rows(shape, bounds, self.instruction(), self.n_sm());
        *self.network.slab_rows.borrow_mut().entry((shape, bounds)).or_insert_with(rows)
    }

    fn instruction(&self) -> Instruction {
        Instruction::of(self.network.kernels.device().compute_capability(), crate::built::targets())
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
                    g: *args,
                    padding: [0; 2],
                };
                kernels.launch(self.stream, &launch, &args)
            }
        }
    }

    /// So many tiles from `first` on.
    fn unpack(&self, slice: Slice<'_>, tiles: [usize; 2], to: DevicePtr) -> Result<(), CudaError> {
        self.unpack_all(slice, tiles, (1, to))
    }

    /// Likewise of each of `n_matrix` matrices that follow each other like a layer's experts.
    fn unpack_all(
        &self,
        slice: Slice<'_>,
        [first, n_tile]: [usize; 2],
        (n_matrix, to): (usize, DevicePtr),
    ) -> Result<(), CudaError> {
        let network = self.network;
        let args = UnpackArgs {
            w: network.at(slice.tiles.at),
            out: to,
            stride: slice.tiles.expert_bytes,
            first_tile: first as i32,
            n_in: slice.tiles.n_in as i32,
            n_unit: slice.tiles.n_unit as i32,
            head_dim: if slice.heads { network.heads.head_dim as i32 } else { 0 },
            half_rot: network.heads.half_rot as i32,
            adjacent: i32::from(network.heads.adjacent),
            n_copy: slice.n_copy() as i32,
            reserved: 0,
        };
        let launch = unpack::unpack(slice.tiles.format, [n_tile, slice.tiles.n_unit, n_matrix]);
        network.kernels.launch(self.stream, &launch, &args)
    }

    /// Logits of the first `n` rows that the list of heads names, into the prompt's own buffer.
    pub(crate) fn logits(&self, n: usize) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let mut norm = network.norm(network.output_norm, buffers.x);
        let n_term = n_term([&network.output]);
        let is_packed = self.packs(n, &[&network.output]);
        norm.source = buffers.heads;
        (norm.out, norm.out_terms) = (buffers.normed, n_term as i32);
        norm.even_then_odd = i32::from(is_packed);
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
        self.product(PromptEpilogue::Store, whole(&network.output, n_term).packed(is_packed), &args)?;
        network.finish_logits(self.stream, buffers.logits, n)
    }
}

fn whole(tiles: &Tiles, n_term: usize) -> Slice<'_> {
    Slice { tiles, first: 0, n_tile: tiles.n_tile, heads: false, n_term, is_packed: false }
}

fn offset(at: DevicePtr, bytes: usize) -> DevicePtr {
    if at == DevicePtr(0) { at } else { DevicePtr(at.0 + bytes as u64) }
}
