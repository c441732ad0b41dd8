//! The model as the kernels see it: pointers and sizes, from which both pipelines make their launches.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use model::architecture::{Activation, Architecture, Heads, NormKind};

use crate::args::{EmbedArgs, Epilogue, NormArgs, PAGE, PairArgs, ProductArgs};
use crate::driver::{DevicePtr, HalfMatrix, Stream};
use crate::error::CudaError;
use crate::launch::kernels::Kernels;
use crate::launch::product::{pair, variant};
use crate::launch::prompt_gemm::{Instruction, Shape};
use crate::launch::variant::{Arithmetic, Wanted};
use crate::launch::{rows, unpack};
use crate::memory::layout::UNIT;
use crate::memory::state::States;
use crate::memory::taker::Taker;
use crate::placement::place::{
    AttentionPlace, HeadShape, LayerPlace, MixerPlace, NormPlace, PerLayerInputsPlace, Placement, Tiles,
};
use crate::placement::{cache, heads};
use crate::sizes::Sizes;
use crate::step::buffers::{Buffers, Forms, Input};

/// A table of embeddings.
#[derive(Clone, Copy)]
pub(crate) struct Table<'t> {
    pub(crate) tiles: &'t Tiles,
    /// Vectors that are added by position.
    pub(crate) positions: Option<u64>,
    pub(crate) scale: f32,
}

/// A model on its device.
pub(crate) struct Network {
    pub(crate) arch: Architecture,
    pub(crate) sizes: Sizes,
    pub(crate) heads: HeadShape,
    pub(crate) buffers: Buffers,
    pub(crate) kernels: Kernels,
    /// Start of the region of weights.
    pub(crate) weights: DevicePtr,
    pub(crate) kv_cache: DevicePtr,
    pub(crate) states: States,
    pub(crate) token_embd: Tiles,
    pub(crate) positions: Option<u64>,
    pub(crate) per_layer: Option<PerLayerInputsPlace>,
    pub(crate) layers: Vec<LayerPlace>,
    pub(crate) output_norm: NormPlace,
    pub(crate) output: Tiles,
    /// Of a prompt's products, by shape and bounds: how many rows of weights to multiply at a time.
    pub(crate) slab_rows: RefCell<HashMap<(Shape, [usize; 2]), usize>>,
    /// Whether the next slab is the second of the two.
    is_second: Cell<bool>,
}

impl Network {
    pub(crate) fn new(
        arch: &Architecture,
        sizes: Sizes,
        placement: &Placement<'_>,
        [weights, kv_cache, states, activations]: [DevicePtr; 4],
        kernels: Kernels,
    ) -> Network {
        Network {
            buffers: Buffers::take(&mut Taker::new(activations), arch, &sizes),
            heads: HeadShape::of(arch),
            arch: arch.clone(),
            sizes,
            kernels,
            weights,
            kv_cache,
            states: States::new(arch, &sizes, states),
            token_embd: placement.token_embd,
            positions: placement.positions,
            per_layer: placement.per_layer,
            layers: placement.layers.clone(),
            output_norm: placement.output_norm,
            output: placement.output,
            slab_rows: RefCell::default(),
            is_second: Cell::new(false),
        }
    }

    /// Where to unpack weights: the slab that the product before does not read, as it may still run.
    pub(crate) fn next_slab(&self) -> DevicePtr {
        let prompt = &self.buffers.prompt;
        let before = if self.is_second.get() { prompt.slab_bytes } else { 0 };
        self.is_second.set(!self.is_second.get());
        prompt.slab.offset(before as u64)
    }

    /// A tensor's address.
    pub(crate) fn at(&self, offset: u64) -> DevicePtr {
        DevicePtr(self.weights.0 + offset)
    }

    /// A vector's address, or none.
    pub(crate) fn at_maybe(&self, offset: Option<u64>) -> DevicePtr {
        offset.map_or(DevicePtr(0), |at| self.at(at))
    }

    /// A layer's heads.
    pub(crate) fn heads_of(&self, layer: usize) -> Heads {
        heads::of(&self.arch, layer)
    }

    /// A layer's attention; it has one where its architecture has heads.
    pub(crate) fn attention_of(&self, layer: usize) -> &AttentionPlace {
        match &self.layers[layer].mixer {
            MixerPlace::Attention(place) => place,
            _ => unreachable!("layer {layer} has attention"),
        }
    }

    /// The keys and values that a layer reads; the same where one row is both.
    pub(crate) fn kv(&self, layer: usize) -> (DevicePtr, DevicePtr) {
        let heads = self.heads_of(layer);
        let before = cache::first_planes(&self.arch, &self.sizes, self.arch.cache_of(layer));
        let k = self.kv_cache.0 + before;
        let of_keys = if heads.has_values() { cache::plane_bytes(heads, &self.sizes) } else { 0 };
        (DevicePtr(k), DevicePtr(k + of_keys))
    }

    /// Where a layer's keys and values are float16 for a prompt, if the cache holds something else.
    pub(crate) fn unpacked_kv(&self) -> Option<[DevicePtr; 2]> {
        let bytes = cache::unpacked_bytes(&self.arch, &self.sizes)?;
        let k = self.kv_cache.0 + cache::first_planes(&self.arch, &self.sizes, self.arch.n_layer);
        Some([DevicePtr(k), DevicePtr(k + bytes)])
    }

    /// Where a layer's keys and values lie as rows of a matrix, of which each is a head's of a position.
    pub(crate) fn kv_matrix(&self, layer: usize, address: DevicePtr) -> HalfMatrix {
        let heads = self.heads_of(layer);
        HalfMatrix { address, n_row: cache::plane_positions(heads, &self.sizes), n_column: heads.head_dim }
    }

    /// Where products leave the keys and values of generated rows that attention is to quantise; none where they go to the cache.
    pub(crate) fn fresh(&self) -> DevicePtr {
        self.buffers.decode.fresh.unwrap_or(DevicePtr(0))
    }

    /// A layer's window as kernels know it: 0 is none.
    pub(crate) fn window(&self, layer: usize) -> i32 {
        self.heads_of(layer).window.map_or(0, |n| i32::try_from(n).unwrap_or(i32::MAX))
    }

    /// The page tables of all slots, `[n_slot, max_pages]`: of all positions, or the windows'.
    pub(crate) fn page_tables(&self, of_windows: bool) -> DevicePtr {
        let n_before = if of_windows { self.sizes.n_slot * self.max_pages() } else { 0 };
        self.buffers.shared.page_tables.offset(4 * n_before as u64)
    }

    /// Those that a layer's keys and values lie by.
    pub(crate) fn page_tables_of(&self, layer: usize) -> DevicePtr {
        self.page_tables(self.sizes.pages.window.is_some() && self.heads_of(layer).window.is_some())
    }

    /// Pages that a sequence can have.
    pub(crate) fn max_pages(&self) -> usize {
        self.sizes.n_ctx.div_ceil(PAGE)
    }

    /// A layer's activation function as kernels know it, with its parameters.
    pub(crate) fn activation(&self, layer: usize) -> (i32, f32, f32) {
        match self.arch.feed_forward[layer].activation {
            Activation::Silu => (0, 0.0, 0.0),
            Activation::GeluTanh => (1, 0.0, 0.0),
            Activation::ClampedSwiglu { alpha, limit } => (2, alpha, limit),
        }
    }

    /// The embeddings of the tokens of `n_row` rows, into `x`; `last` are the tokens last sampled. A row is computed by `n_block` blocks.
    pub(crate) fn embed(
        &self,
        stream: &Stream,
        to: (DevicePtr, DevicePtr, DevicePtr),
        shape: [usize; 2],
    ) -> Result<(), CudaError> {
        let scale = self.arch.scales.embedding;
        self.embed_from(
            stream,
            Table { tiles: &self.token_embd, positions: self.positions, scale },
            to,
            shape,
        )
    }

    /// Likewise out of any table.
    pub(crate) fn embed_from(
        &self,
        stream: &Stream,
        Table { tiles, positions, scale }: Table<'_>,
        (rows, last, x): (DevicePtr, DevicePtr, DevicePtr),
        [n_row, n_block]: [usize; 2],
    ) -> Result<(), CudaError> {
        let args = EmbedArgs {
            w: self.at(tiles.at),
            positions: self.at_maybe(positions),
            rows,
            last,
            x,
            n_embd: tiles.n_in as i32,
            n_unit: tiles.n_unit as i32,
            scale,
            reserved: 0,
        };
        self.kernels.launch(stream, &unpack::embed(tiles.format, [n_row, n_block]), &args)
    }

    /// A norm over `n_embd` values, or none where the values are taken as they are; where the results go is for the caller to say.
    pub(crate) fn norm(&self, norm: impl Into<Option<NormPlace>>, x: DevicePtr) -> NormArgs {
        let norm = norm.into();
        NormArgs {
            x,
            weight: self.at_maybe(norm.map(|norm| norm.weight)),
            bias: self.at_maybe(norm.and_then(|norm| norm.bias)),
            n_embd: self.arch.n_embd as i32,
            is_layer_norm: i32::from(self.arch.norm.kind == NormKind::Layer),
            eps: self.arch.norm.eps,
            out_terms: 1,
            residual: self.arch.scales.residual,
            ..NormArgs::default()
        }
    }

    /// Whether a product can do this norm's work for the one after it (see product.cuh), so that it needs no kernel.
    pub(crate) fn can_leave(&self, norm: NormPlace) -> Result<bool, CudaError> {
        let is_rms = self.arch.norm.kind == NormKind::Rms && norm.bias.is_none();
        Ok(is_rms && self.arch.n_embd.is_multiple_of(UNIT) && self.kernels.is_hopper()?)
    }

    /// Launches a norm over a prompt's rows.
    pub(crate) fn launch_norm(
        &self,
        stream: &Stream,
        n_row: usize,
        args: &NormArgs,
    ) -> Result<(), CudaError> {
        self.kernels.launch(stream, &rows::norm(n_row, args), args)
    }

    /// Launches a norm over generated rows; its sums are in another order than a prompt's.
    pub(crate) fn launch_norm_few(
        &self,
        stream: &Stream,
        n_row: usize,
        args: &NormArgs,
    ) -> Result<(), CudaError> {
        self.kernels.launch(stream, &rows::norm_few(n_row), args)
    }

    /// A product with these weights; the epilogue's own fields are for the caller.
    pub(crate) fn product(&self, tiles: &Tiles, x: impl Into<Input>, epilogue: Epilogue) -> ProductArgs {
        let Input { act: x, squares } = x.into();
        ProductArgs {
            squares,
            n_square: (self.arch.n_embd / 32) as i32,
            eps: self.arch.norm.eps,
            w: self.at(tiles.at),
            bias: self.at_maybe(tiles.bias),
            n_tile: tiles.n_tile as i32,
            n_unit: tiles.n_unit as i32,
            n_row: tiles.n_row as i32,
            epilogue: epilogue as i32,
            x,
            parts: self.buffers.decode.parts,
            n_stored: self.buffers.decode.n_stored,
            ..ProductArgs::default()
        }
    }

    /// Launches a product over all columns of its activations.
    pub(crate) fn launch_product(
        &self,
        stream: &Stream,
        tiles: &Tiles,
        args: &ProductArgs,
    ) -> Result<(), CudaError> {
        let n_col = args.x.n_col as usize;
        let variant = variant(tiles.format, self.wanted(tiles, (n_col, 1), args));
        let n_block = tiles.n_tile.div_ceil(variant.n_tile);
        let n_pass = n_col.div_ceil(variant.n_column);
        let (n_part, n_tile) = (variant.parts.apart(), variant.n_tile);
        let mut launch = variant.launch([n_block, n_pass]);
        // What a norm wants are blocks of 32 rows: of two blocks of one tile.
        if args.next_weight != DevicePtr(0) && n_tile == 1 {
            launch.cluster = 2;
        }
        self.kernels.launch(stream, &launch, &ProductArgs { n_part, ..*args })
    }

    /// Launches two products with the same activations as one, if there is a kernel for that.
    pub(crate) fn launch_pair(
        &self,
        stream: &Stream,
        tiles: [&Tiles; 2],
        args: &PairArgs,
    ) -> Result<bool, CudaError> {
        let n_col = args.first.x.n_col as usize;
        let n_tile = tiles[0].n_tile + tiles[1].n_tile;
        let wanted = Wanted { n_tile, ..self.wanted(tiles[0], (n_col, 1), &args.first) };
        if self.arithmetic(tiles[1]) != wanted.arithmetic {
            return Ok(false);
        }
        let Some(variant) = pair(tiles.map(|tiles| tiles.format), wanted) else { return Ok(false) };
        let n_block = tiles.map(|tiles| tiles.n_tile.div_ceil(variant.n_tile)).iter().sum();
        let n_pass = n_col.div_ceil(variant.n_column);
        let n_part = variant.parts.apart();
        let [first, second] = [args.first, args.second].map(|args| ProductArgs { n_part, ..args });
        self.kernels.launch(stream, &variant.launch([n_block, n_pass]), &PairArgs { first, second })?;
        Ok(true)
    }

    pub(crate) fn wanted(
        &self,
        tiles: &Tiles,
        (n_col, n_matrix): (usize, usize),
        args: &ProductArgs,
    ) -> Wanted {
        Wanted {
            arithmetic: self.arithmetic(tiles),
            n_tile: tiles.n_tile,
            n_unit: tiles.n_unit,
            n_matrix,
            of_experts: tiles.of_experts,
            n_col,
            n_expected: n_col,
            at_once: self.sizes.columns,
            needs_groups: [Epilogue::Gated as i32, Epilogue::Plain as i32].contains(&args.epilogue),
            max_shared_bytes: self.kernels.device().max_shared_bytes(),
            n_sm: self.kernels.device().n_sm() as usize,
        }
    }

    /// The arithmetic of a matrix's generated rows: it follows from the matrix and the device alone.
    pub(crate) fn arithmetic(&self, tiles: &Tiles) -> Arithmetic {
        let instruction =
            Instruction::of(self.kernels.device().compute_capability(), crate::built::targets());
        Arithmetic::of(tiles.format, instruction)
    }

    /// The forms of activations that these matrices read.
    pub(crate) fn forms<'a>(&self, tiles: impl IntoIterator<Item = &'a Tiles>) -> Forms {
        tiles.into_iter().fold(Forms::default(), |forms, tiles| match self.arithmetic(tiles) {
            Arithmetic::Ints => Forms { ints: true, ..forms },
            Arithmetic::Floats => Forms { floats: true, ..forms },
            Arithmetic::Halves => Forms { halves: true, ..forms },
        })
    }
}
