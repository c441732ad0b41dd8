//! How a model is put on the CPU, and the memory that takes.

use device::{KvPages, KvSizes};
use model::architecture::Mixer;
use model::{KvType, Model};

use crate::kernels::KvShape;
use crate::simd::attend::PAGE;
use crate::simd::isa::Isa;

/// The most guessed tokens of a step: about as many rows more as are nearly free.
const MAX_GUESSES: usize = 16;

/// How a model is put on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that compute.
    pub threads: usize,
    /// The exact kernels instead of the fast ones.
    pub exact: bool,
    /// Tokens a sequence may have.
    pub n_ctx: usize,
    /// Sequences at once.
    pub n_slot: usize,
    /// Rows (tokens) a step.
    pub n_row: usize,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Copies of a sequence's state that can be kept, in a model that has one.
    pub n_snapshot: usize,
    /// KV pages in all; by default enough for `n_slot` sequences of `n_ctx` tokens.
    pub n_page: Option<usize>,
    /// The instruction set of the fast kernels; by default the best that this machine runs.
    pub isa: Option<Isa>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            exact: false,
            n_ctx: 4096,
            n_slot: 1,
            n_row: 512,
            kv_type: KvType::F16,
            n_snapshot: 0,
            n_page: None,
            isa: None,
        }
    }
}

/// Bytes that an executor will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, which stay in the mapped file.
    pub weights: u64,
    /// The KV cache.
    pub kv_cache: u64,
    /// Its pages.
    pub pages: KvPages,
    /// What sequences keep beside it, and its snapshots.
    pub state: u64,
    /// An upper estimate of a step's buffers.
    pub activations: u64,
}

impl Options {
    /// Guessed tokens of a step, for a model. A state would have to be taken back with a wrong one, and is not kept from before it.
    #[must_use]
    pub fn n_guess(&self, model: &Model) -> usize {
        if model.architecture.n_state() > 0 { 0 } else { MAX_GUESSES.min(self.n_row.saturating_sub(1)) }
    }

    /// The KV cache's pages for a model.
    #[must_use]
    pub fn kv_pages(&self, model: &Model) -> KvPages {
        KvPages::plan(&KvSizes {
            page_size: PAGE,
            n_ctx: self.n_ctx,
            n_slot: self.n_slot,
            n_row: self.n_row,
            n_page: self.n_page,
            window: model.architecture.widest_window(),
        })
    }

    /// The KV cache's shape for a model.
    #[must_use]
    pub fn kv_shape(&self, model: &Model) -> KvShape {
        KvShape::new(&self.kv_pages(model), model.architecture.kv_layers())
    }

    /// What the executor will take; saturating, so that absurd sizes read as absurd and not as small.
    #[must_use]
    pub fn plan(&self, model: &Model) -> MemoryPlan {
        let arch = &model.architecture;
        let kv_values = self.kv_shape(model).n_kept();
        let used = arch.mixture().map_or(1, |mixture| mixture.n_used + 1);
        let of_mixer = |mixer: &Mixer| match mixer {
            Mixer::Attention(heads) => arch.attention.n_q_row(*heads) + 2 * heads.n_kv(),
            Mixer::Latent(latent) => {
                2 * latent.heads().n_q() + latent.n_head * latent.head_dim() + latent.q_rank.unwrap_or(0)
            }
            Mixer::ShortConv(conv) => 2 * conv.n_channel,
            Mixer::DeltaRule(rule) => rule.conv().n_channel + rule.n_v() + rule.n_v_head,
        };
        let per_row = 6 * arch.n_embd
            + 4 * arch.mixers.iter().map(of_mixer).max().unwrap_or_default()
            + 4 * used * (arch.widest_ff() + arch.n_embd)
            + 2 * arch.n_layer * arch.n_per_layer.unwrap_or(0);
        let row_bytes = (per_row as u64).saturating_mul(4).saturating_mul(self.n_row as u64);
        let n_head = (self.n_slot as u64).saturating_add(self.n_guess(model) as u64);
        let logits = (arch.n_vocab as u64).saturating_mul(4 * 2).saturating_mul(n_head);
        let n_entry = (self.n_slot as u64).saturating_add(self.n_snapshot as u64);
        MemoryPlan {
            weights: model.weights.n_bytes(),
            pages: self.kv_pages(model),
            state: (4 * arch.n_state() as u64).saturating_mul(n_entry),
            kv_cache: if self.exact { kv_values.saturating_mul(4) } else { self.kv_type.bytes(kv_values) },
            activations: row_bytes.saturating_add(logits),
        }
    }
}
