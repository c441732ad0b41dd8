//! What most models do within products, as kernels of their own, for models that do more there ([`apart`]).

use model::KvType;
use model::architecture::{KvSource, Position, QkNorm};

use crate::args::{AddArgs, NormArgs, PlaceArgs, QkNormArgs, ScaleArgs, Values};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::attend_rows::{self, AttendRowsArgs};
use crate::launch::{kv, rows};
use crate::placement::place::{MixerPlace, NormPlace};
use crate::placement::{apart, heads};
use crate::step::network::Network;

impl Network {
    /// What a layer's queries, keys and values have in common wherever queries go; `qkv` is `[n_row, n_q + 2 n_kv]`, or queries alone. Keys and values go to a
    /// cache of float16, and stay where they are for the kernel that quantises them for another.
    pub(crate) fn placing(&self, layer: usize, qkv: DevicePtr, rows: DevicePtr) -> PlaceArgs {
        let (attention, shared) = (&self.arch.attention, &self.buffers.shared);
        let (heads, half_rots) = (self.heads_of(layer), heads::half_rots(&self.arch));
        let kind = match &self.arch.position {
            Position::Rope(ropes) => ropes.layers[layer],
            Position::Learned => None,
        };
        let (k_cache, v_cache) = match self.sizes.kv_type {
            KvType::F16 => self.kv(layer),
            KvType::Q8_0 => (DevicePtr(0), DevicePtr(0)),
        };
        let before: usize = half_rots[..kind.unwrap_or(0)].iter().sum();
        let turns = shared.turns.offset(8 * (self.sizes.n_ctx * before) as u64);
        PlaceArgs {
            qkv,
            k_cache,
            v_cache,
            rows,
            page_tables: self.page_tables_of(layer),
            turns,
            n_q: heads.n_q() as i32,
            n_kv: heads::n_own_kv(heads) as i32,
            head_dim: heads.head_dim as i32,
            half_rot: kind.map_or(0, |kind| half_rots[kind] as i32),
            adjacent: i32::from(self.heads.adjacent),
            max_pages: self.max_pages() as i32,
            n_kv_head: heads.n_kv_head as i32,
            q_terms: 1,
            heat: attention.temperature.map_or(0.0, |heat| heat.scale),
            heat_context: attention
                .temperature
                .map_or(0, |heat| i32::try_from(heat.context).unwrap_or(i32::MAX)),
            ..PlaceArgs::default()
        }
    }

    /// Normalises whole rows of queries and of keys, where the model does.
    pub(crate) fn normalise_rows(
        &self,
        stream: &Stream,
        layer: usize,
        (qkv, n_row): (DevicePtr, usize),
    ) -> Result<(), CudaError> {
        if self.arch.attention.qk_norm != Some(QkNorm::Row) {
            return Ok(());
        }
        let (heads, place) = (self.heads_of(layer), self.attention_of(layer));
        let args = QkNormArgs {
            qkv,
            q_weight: self.at_maybe(place.q_norm),
            k_weight: self.at_maybe(place.k_norm),
            n_q: heads.n_q() as i32,
            n_kv: heads::n_own_kv(heads) as i32,
            eps: self.arch.norm.eps,
            reserved: 0,
        };
        self.kernels.launch(stream, &rows::qk_norm(n_row), &args)
    }

    /// Normalises queries, keys and values by head, where the model does, turns them, and puts them where they belong.
    pub(crate) fn place_heads(
        &self,
        stream: &Stream,
        layer: usize,
        (args, n_row): (&PlaceArgs, usize),
    ) -> Result<(), CudaError> {
        let heads = self.heads_of(layer);
        let n_head = heads::n_qkv(heads) / heads.head_dim;
        self.kernels.launch(stream, &rows::place_heads(n_row, n_head), &self.normalising(layer, args))
    }

    /// Likewise of a prompt.
    pub(crate) fn place_prompt(
        &self,
        stream: &Stream,
        layer: usize,
        (args, n_row): (&PlaceArgs, usize),
    ) -> Result<(), CudaError> {
        let all = PlaceArgs { n_row: n_row as i32, ..self.normalising(layer, args) };
        if rows::can_place_prompt(&all) {
            return self.kernels.launch(stream, &rows::place_prompt(&all), &all);
        }
        self.place_heads(stream, layer, (args, n_row))
    }

    /// `args` with the norms of the layer's heads.
    pub(crate) fn normalising(&self, layer: usize, args: &PlaceArgs) -> PlaceArgs {
        let (heads, place, attention) =
            (self.heads_of(layer), self.attention_of(layer), &self.arch.attention);
        let is_normed = attention.qk_norm == Some(QkNorm::Head);
        let norm = |at| if is_normed { self.at_maybe(at) } else { DevicePtr(0) };
        let values = match heads.source {
            KvSource::Projections if attention.v_norm => Values::Normed,
            KvSource::KeysAlone => Values::OfKeys,
            KvSource::Projections | KvSource::Layer(_) | KvSource::OneRow => Values::Left,
        };
        PlaceArgs {
            q_weight: norm(place.q_norm),
            k_weight: norm(place.k_norm),
            is_normed: i32::from(is_normed),
            values: values as i32,
            eps: self.arch.norm.eps,
            ..*args
        }
    }

    /// Whether [`attention_can_place`](Network::attention_can_place) holds for any layer. Where products place heads themselves, it need not.
    pub(crate) fn attention_can_place_any(&self) -> bool {
        let is_attention = |n: &usize| matches!(self.layers[*n].mixer, MixerPlace::Attention(_));
        self.buffers.decode.qkv.is_some()
            && (0..self.layers.len()).filter(is_attention).any(|n| self.attention_can_place(n))
    }

    /// Whether attention of generated rows can place a layer's heads: it reads the cache of float16, into which each row's last block puts its
    /// own key and value, and nothing else does.
    pub(crate) fn attention_can_place(&self, layer: usize) -> bool {
        let heads = self.heads_of(layer);
        !apart::attention(&self.arch)
            && self.sizes.kv_type == KvType::F16
            && heads.source == KvSource::Projections
            && !self.arch.attention.v_norm
    }

    /// Attention row by row, where [`attention`](crate::placement::apart::attention) says so: `x`, `[n_row, n_q]`, holds queries and then
    /// what they found. In a cache of Q8_0 the rows' keys and values are put here, out of `qkv`. Generated rows are at up to `n_position`
    /// positions.
    pub(crate) fn attend_rows(
        &self,
        stream: &Stream,
        layer: usize,
        (qkv, x, rows): (DevicePtr, DevicePtr, DevicePtr),
        (n_row, n_position): (usize, Option<usize>),
    ) -> Result<(), CudaError> {
        let heads = self.heads_of(layer);
        if heads.keeps() {
            self.keep_q8(stream, layer, (qkv, heads.n_q()), (rows, n_row))?;
        }
        let args = AttendRowsArgs {
            x,
            out: x,
            sinks: self.at_maybe(self.attention_of(layer).sinks),
            n_value: heads.head_dim as i32,
            ..self.attending(layer, (rows, n_position))
        };
        self.launch_attend_rows(stream, &args, (n_row, n_position))
    }

    /// Puts rows' keys and values, which follow `n_q` values of each row of `qkv`, in a cache of Q8_0. Those of another are there already.
    pub(crate) fn keep_q8(
        &self,
        stream: &Stream,
        layer: usize,
        (qkv, n_q): (DevicePtr, usize),
        (rows, n_row): (DevicePtr, usize),
    ) -> Result<(), CudaError> {
        if self.sizes.kv_type != KvType::Q8_0 {
            return Ok(());
        }
        let (heads, (k_cache, v_cache)) = (self.heads_of(layer), self.kv(layer));
        let args = kv::KvStoreArgs {
            qkv,
            k_cache,
            v_cache: if heads.has_values() { v_cache } else { DevicePtr(0) },
            rows,
            page_tables: self.page_tables_of(layer),
            n_q: n_q as i32,
            n_kv_head: heads.n_kv_head as i32,
            head_dim: heads.head_dim as i32,
            max_pages: self.max_pages() as i32,
        };
        self.kernels.launch(stream, &kv::store_launch(n_row), &args)
    }

    /// A layer's attention row by row; what is read and written is for the caller to say.
    pub(crate) fn attending(
        &self,
        layer: usize,
        (rows, n_position): (DevicePtr, Option<usize>),
    ) -> AttendRowsArgs {
        let (attention, heads) = (&self.arch.attention, self.heads_of(layer));
        let (k_cache, v_cache) = self.kv(layer);
        AttendRowsArgs {
            k_cache,
            v_cache,
            rows,
            page_tables: self.page_tables_of(layer),
            n_head: heads.n_head as i32,
            n_kv_head: heads.n_kv_head as i32,
            head_dim: heads.head_dim as i32,
            max_pages: self.max_pages() as i32,
            window: self.window(layer),
            scale: attention.scale,
            cap: attention.score_cap.unwrap_or(0.0),
            splits: i32::from(n_position.is_some()),
            part: self.buffers.decode.attend_parts,
            ..AttendRowsArgs::default()
        }
    }

    pub(crate) fn launch_attend_rows(
        &self,
        stream: &Stream,
        args: &AttendRowsArgs,
        shape: (usize, Option<usize>),
    ) -> Result<(), CudaError> {
        let is_q8 = self.sizes.kv_type == KvType::Q8_0;
        let (attend, combine) = attend_rows::launches(shape, is_q8, args);
        self.kernels.launch(stream, &attend, args)?;
        combine.map_or(Ok(()), |combine| self.kernels.launch(stream, &combine, args))
    }

    /// Rows of `n` values as they are, for a kernel that only rounds them; where the results go is for the caller to say.
    pub(crate) fn plain_rows(x: DevicePtr, n: usize) -> NormArgs {
        NormArgs { x, n_embd: n as i32, out_terms: 1, residual: 1.0, ..NormArgs::default() }
    }

    /// Adds `term` to `x`, both `[n_row, n_embd]`, normalised and scaled as the model does.
    pub(crate) fn add_term(
        &self,
        stream: &Stream,
        (x, term, n_row): (DevicePtr, DevicePtr, usize),
        norm: Option<NormPlace>,
    ) -> Result<(), CudaError> {
        let args = AddArgs {
            x,
            y: term,
            weight: self.at_maybe(norm.map(|norm| norm.weight)),
            n: self.arch.n_embd as i32,
            residual: self.arch.scales.residual,
            eps: self.arch.norm.eps,
            reserved: 0,
        };
        self.kernels.launch(stream, &rows::add(n_row), &args)
    }

    /// Multiplies the residual stream by the layer's factor, where it has one.
    pub(crate) fn scale_layer(
        &self,
        stream: &Stream,
        layer: usize,
        (x, n_row): (DevicePtr, usize),
    ) -> Result<(), CudaError> {
        match self.layers[layer].scale {
            Some(factor) => self.scale(stream, (x, n_row * self.arch.n_embd), factor, None),
            None => Ok(()),
        }
    }

    /// Scales and bounds the logits of `n_row` rows, where the model does.
    pub(crate) fn finish_logits(
        &self,
        stream: &Stream,
        logits: DevicePtr,
        n_row: usize,
    ) -> Result<(), CudaError> {
        let (factor, cap) = (self.arch.scales.logits, self.arch.logit_cap);
        if factor == 1.0 && cap.is_none() {
            return Ok(());
        }
        self.scale(stream, (logits, n_row * self.arch.n_vocab), factor, cap)
    }

    fn scale(
        &self,
        stream: &Stream,
        (x, n): (DevicePtr, usize),
        factor: f32,
        cap: Option<f32>,
    ) -> Result<(), CudaError> {
        let args = ScaleArgs { x, n: n as u64, factor, cap: cap.unwrap_or(0.0) };
        self.kernels.launch(stream, &rows::scale(n), &args)
    }
}
