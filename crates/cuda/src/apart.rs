//! What most models do within products, as kernels of their own, for models that do more there: norms of queries and keys, rotations that
//! differ by layer, attention with a cap or with heads of unusual sizes, and terms that are normalised or scaled before they are added to
//! the residual stream.

use model::KvType;
use model::architecture::{Architecture, Position, QkNorm};

use crate::args::{AddArgs, NormArgs, PlaceArgs, QkNormArgs, ScaleArgs};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::kernels::Launch;
use crate::launch::attend_rows::{self, AttendRowsArgs};
use crate::launch::{attend, kv};
use crate::layout::TILE;
use crate::network::Network;
use crate::place::{LayerPlace, NormPlace};

/// Whether queries and keys are more than a product that is turned, the same way in all layers.
pub(crate) fn heads(arch: &Architecture) -> bool {
    let differs = match &arch.position {
        // Products turn pairs of rows of a tile of 16.
        Position::Rope(ropes) => {
            ropes.layers.iter().any(|&kind| kind != Some(0)) || ropes.kinds[0].n_rot % TILE != 0
        }
        Position::Learned => false,
    };
    differs || attention(arch) || arch.attention.qk_norm.is_some() || arch.attention.temperature.is_some()
}

/// Whether attention is computed row by row, since the other kernels for it lack its head size or its cap.
pub(crate) fn attention(arch: &Architecture) -> bool {
    arch.attention.score_cap.is_some() || !attend::has_kernels(arch.attention.head_dim)
}

/// Whether what is added to the residual stream is more than a product.
pub(crate) fn terms(arch: &Architecture) -> bool {
    arch.scales.residual != 1.0 || arch.has_post_norms
}

/// Kinds of rotation.
pub(crate) fn n_rope(arch: &Architecture) -> usize {
    match &arch.position {
        Position::Rope(ropes) => ropes.kinds.len(),
        Position::Learned => 1,
    }
}

impl Network {
    /// What a layer's queries, keys and values have in common wherever queries go; `qkv` is `[n_row, n_q + 2 n_kv]`. Keys and values go to a
    /// cache of float16, and stay where they are for the kernel that quantises them for another.
    pub(crate) fn placing(&self, layer: usize, qkv: DevicePtr, rows: DevicePtr) -> PlaceArgs {
        let (attention, shared) = (&self.arch.attention, &self.buffers.shared);
        let kind = match &self.arch.position {
            Position::Rope(ropes) => ropes.layers[layer],
            Position::Learned => None,
        };
        let (k_cache, v_cache) = match self.sizes.kv_type {
            KvType::F16 => self.kv(layer),
            KvType::Q8_0 => (DevicePtr(0), DevicePtr(0)),
        };
        let table = 8 * (self.sizes.n_ctx * self.heads.half_rot) as u64;
        PlaceArgs {
            qkv,
            k_cache,
            v_cache,
            rows,
            page_tables: shared.page_tables,
            turns: DevicePtr(shared.turns.0 + kind.unwrap_or(0) as u64 * table),
            n_q: attention.n_q() as i32,
            n_kv: attention.n_kv() as i32,
            head_dim: attention.head_dim as i32,
            half_rot: kind.map_or(0, |_| self.heads.half_rot as i32),
            adjacent: i32::from(self.heads.adjacent),
            max_pages: self.max_pages() as i32,
            n_kv_head: attention.n_kv_head as i32,
            q_terms: 1,
            heat: attention.temperature.map_or(0.0, |heat| heat.scale),
            heat_context: attention
                .temperature
                .map_or(0, |heat| i32::try_from(heat.context).unwrap_or(i32::MAX)),
            ..PlaceArgs::default()
        }
    }

    /// Normalises queries and keys, where the model does.
    pub(crate) fn normalise_heads(
        &self,
        stream: &Stream,
        layer: &LayerPlace,
        (qkv, n_row): (DevicePtr, usize),
    ) -> Result<(), CudaError> {
        let attention = &self.arch.attention;
        let (Some(kind), Some([of_q, of_k])) = (attention.qk_norm, layer.qk_norm) else { return Ok(()) };
        let args = QkNormArgs {
            qkv,
            q_weight: self.at(of_q),
            k_weight: self.at(of_k),
            n_q: attention.n_q() as i32,
            n_kv: attention.n_kv() as i32,
            group: attention.head_dim as i32,
            eps: self.arch.norm.eps,
        };
        let n_head = attention.n_head + attention.n_kv_head;
        let launch = match kind {
            QkNorm::Head => Launch::new("qk_norm_heads", [n_row as u32, n_head.div_ceil(8) as u32], 256),
            QkNorm::Row => Launch::new("qk_norm_rows", [n_row as u32, 2], 256),
        };
        self.kernels.launch(stream, &launch, &args)
    }

    /// Attention row by row, where [`attention`] says so: `x`, `[n_row, n_q]`, holds queries and then what they found. In a cache of Q8_0 the
    /// rows' keys and values are put here, out of `qkv`.
    pub(crate) fn attend_rows(
        &self,
        stream: &Stream,
        layer: usize,
        (qkv, x, rows): (DevicePtr, DevicePtr, DevicePtr),
        n_row: usize,
    ) -> Result<(), CudaError> {
        let attention = &self.arch.attention;
        let (n_head, n_kv_head) = (attention.n_head as i32, attention.n_kv_head as i32);
        let (head_dim, max_pages) = (attention.head_dim as i32, self.max_pages() as i32);
        let page_tables = self.buffers.shared.page_tables;
        let (k_cache, v_cache) = self.kv(layer);
        let is_q8 = self.sizes.kv_type == KvType::Q8_0;
        if is_q8 {
            let n_q = attention.n_q() as i32;
            let args = kv::KvStoreArgs {
                qkv,
                k_cache,
                v_cache,
                rows,
                page_tables,
                n_q,
                n_kv_head,
                head_dim,
                max_pages,
            };
            self.kernels.launch(stream, &kv::store_launch(n_row), &args)?;
        }
        let args = AttendRowsArgs {
            x,
            k_cache,
            v_cache,
            rows,
            page_tables,
            sinks: self.at_maybe(self.layers[layer].sinks),
            n_head,
            n_kv_head,
            head_dim,
            max_pages,
            window: self.window(layer),
            scale: attention.scale,
            cap: attention.score_cap.unwrap_or(0.0),
            reserved: 0,
        };
        self.kernels.launch(stream, &attend_rows::launch(n_row, is_q8, &args), &args)
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
        self.kernels.launch(stream, &Launch::new("add_rows", [n_row as u32, 1], 256), &args)
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
        let n = n_row * self.arch.n_vocab;
        let args = ScaleArgs { x: logits, n: n as u64, factor, cap: cap.unwrap_or(0.0) };
        let n_block = n.div_ceil(1024).min(1 << 16) as u32;
        self.kernels.launch(stream, &Launch::new("scale_all", [n_block, 1], 256), &args)
    }
}
