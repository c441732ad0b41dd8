//! What memory does a step need beside weights and KV cache? Every buffer with its size, as offsets into one region.
//!
//! Sizes depend on the model and the options alone, so the region is planned before anything is allocated.

use model::KvType;
use model::architecture::{Architecture, FeedForward, Heads, Mixer, Mixture};

use crate::args::{ActOut, PAGE, Row};
use crate::driver::DevicePtr;
use crate::launch::prompt_gemm::SLAB_BYTES;
use crate::launch::{attend, attend_rows, product_half};
use crate::memory::layout::UNIT;
use crate::memory::taker::Taker;
use crate::placement::apart;
use crate::placement::heads;
use crate::sampling::{SampleBuffers, SampleLimits};
use crate::sizes::Sizes;

mod latent;

use latent::Widths;
pub(crate) use latent::{HeadTables, LatentBuffers};

/// Bytes of weights that are unpacked at a time, at most, for few rows and for experts: a product of a whole matrix has tiles for all multiprocessors.
const WIDE_SLAB_BYTES: usize = 128 << 20;

/// Bytes of a slab: no more than the largest product of a layer needs.
fn slab_bytes(arch: &Architecture) -> usize {
    let n_matrix = arch.mixture().map_or(1, |mixture| mixture.n_expert);
    let gate_and_up = n_matrix.saturating_mul(2 * arch.widest_ff() * arch.n_embd);
    gate_and_up.saturating_mul(2).clamp(SLAB_BYTES, WIDE_SLAB_BYTES)
}

/// Bytes of logits that a prompt's rows may take at a time.
const LOGITS_BYTES: usize = 64 << 20;

/// Activations for the decode products in all forms, for up to `n_col` columns of `width` values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    full: ActOut,
    pub(crate) width: usize,
}

impl Act {
    fn take(taker: &mut Taker, n_col: usize, width: usize) -> Act {
        let k_pad = width.next_multiple_of(UNIT);
        let full = ActOut {
            q: taker.take(n_col * k_pad, 1),
            s: taker.take(n_col * k_pad / 32, 8),
            f: taker.take(n_col * k_pad, 4),
            // Whole groups of 8 columns.
            h: taker.take(n_col.next_multiple_of(8) * k_pad, 2),
            n_col: n_col as i32,
            k_pad: k_pad as i32,
        };
        Act { full, width }
    }

    /// For a step of `n_col` columns, in the forms that are read.
    pub(crate) fn of(&self, n_col: usize, forms: Forms) -> ActOut {
        let none = DevicePtr(0);
        ActOut {
            q: if forms.ints { self.full.q } else { none },
            s: if forms.ints { self.full.s } else { none },
            f: if forms.floats { self.full.f } else { none },
            h: if forms.halves { self.full.h } else { none },
            n_col: n_col as i32,
            k_pad: self.full.k_pad,
        }
    }

    /// Of rows of fewer values.
    pub(crate) fn narrow(&self, width: usize) -> Act {
        let k_pad = width.next_multiple_of(UNIT).min(self.full.k_pad as usize) as i32;
        Act { full: ActOut { k_pad, ..self.full }, width }
    }

    /// The float form.
    pub(crate) fn floats(&self) -> (DevicePtr, usize) {
        (self.full.f, self.full.k_pad as usize)
    }
}

/// What a product reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) act: ActOut,
    /// Where the product is to scale the activations' rows, as a norm does, their sums of squares; or none.
    pub(crate) squares: DevicePtr,
}

impl From<ActOut> for Input {
    fn from(act: ActOut) -> Input {
        Input { act, squares: DevicePtr(0) }
    }
}

/// Which forms of activations the next products read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) ints: bool,
    pub(crate) floats: bool,
    pub(crate) halves: bool,
}

impl Forms {
    /// Float32 alone.
    pub(crate) const FLOATS: Forms = Forms { ints: false, floats: true, halves: false };
}

/// Buffers of the experts' choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routing {
    /// `[n_row, n_expert]`.
    pub(crate) logits: DevicePtr,
    /// `[n_row * n_used]`.
    pub(crate) weights: DevicePtr,
    /// `[n_expert + 1]`.
    pub(crate) active: DevicePtr,
    /// `[n_expert + 1]`.
    pub(crate) offsets: DevicePtr,
    /// `[n_row * n_used]`.
    pub(crate) entries: DevicePtr,
    /// `[n_row * n_used, n_embd]` float32: what each chosen expert adds.
    pub(crate) parts: DevicePtr,
    /// `[n_row * n_used]`: the expert of each entry (prompts).
    pub(crate) chosen: DevicePtr,
    /// `[n_row * n_used, n_embd]` float16: rows by expert (prompts).
    pub(crate) gathered: DevicePtr,
    pub(crate) shared: Option<SharedBuffers>,
}

/// Buffers of the feed-forward that all rows of a mixture use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedBuffers {
    /// `[n_row]`: the logit of the factor of what it adds.
    pub(crate) gate: DevicePtr,
    /// `[n_row, n_embd]` float32: what it adds.
    pub(crate) term: DevicePtr,
}

impl Routing {
    fn take(taker: &mut Taker, n_row: usize, n_term: usize, arch: &Architecture) -> Option<Routing> {
        let Mixture { n_expert, n_used, .. } = *arch.mixture()?;
        let has_shared = widest_shared(arch) > 0;
        Some(Routing {
            logits: taker.take(n_row * n_expert, 4),
            weights: taker.take(n_row * n_used, 4),
            active: taker.take(n_expert + 1, 4),
            offsets: taker.take(n_expert + 1, 4),
            entries: taker.take(n_row * n_used, 4),
            parts: taker.take(n_row * n_used * arch.n_embd, 4),
            chosen: taker.take(n_row * n_used, 4),
            gathered: taker.take(n_row * n_used * arch.n_embd, 2 * n_term),
            shared: has_shared.then(|| SharedBuffers {
                gate: taker.take(n_row, 4),
                term: taker.take(n_row * arch.n_embd, 4),
            }),
        })
    }
}

/// The widest feed-forward that all rows of a mixture use; 0 where there is none.
fn widest_shared(arch: &Architecture) -> usize {
    let mixtures = arch.feed_forward.iter().filter_map(FeedForward::mixture);
    mixtures.filter_map(|mixture| mixture.shared).map(|shared| shared.n_ff).max().unwrap_or(0)
}

/// Buffers of recurrent layers and of gated attention: rows of float32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixerBuffers {
    /// `[n_row, n_channel]`: what a convolution reads.
    pub(crate) inputs: DevicePtr,
    /// `[n_row, n_channel]`, what it gives a delta rule; or `[n_row, 3 n_embd]`, what a short convolution is made of.
    pub(crate) wide: DevicePtr,
    /// `[n_row, n_v]` or `[n_row, n_q]`: what the result is multiplied by.
    pub(crate) gate: DevicePtr,
    /// `[n_row, n_v_head]`.
    pub(crate) alpha: DevicePtr,
    /// `[n_row, n_v_head]`.
    pub(crate) beta: DevicePtr,
    /// `[n_row, n_v]`, `[n_row, n_embd]` or `[n_row, n_q]`: the result.
    pub(crate) mixed: DevicePtr,
}

impl MixerBuffers {
    fn take(taker: &mut Taker, n_row: usize, arch: &Architecture) -> Option<MixerBuffers> {
        let is_gated = arch.attention.gated;
        // Inputs, wide, gate, alpha or beta, result.
        let widths = |mixer: &Mixer| match mixer {
            Mixer::Attention(heads) if is_gated => [0, 0, heads.n_q(), 0, heads.n_q()],
            Mixer::Attention(_) | Mixer::Latent(_) => [0; 5],
            Mixer::ShortConv(conv) => [conv.n_channel, 3 * conv.n_channel, 0, 0, conv.n_channel],
            Mixer::DeltaRule(rule) => {
                let n = rule.conv().n_channel;
                [n, n, rule.n_v(), rule.n_v_head, rule.n_v()]
            }
        };
        let most = |i: usize| arch.mixers.iter().map(|mixer| widths(mixer)[i]).max().unwrap_or(0);
        let [inputs, wide, gate, of_head, mixed] = std::array::from_fn(most);
        if inputs == 0 && gate == 0 {
            return None;
        }
        Some(MixerBuffers {
            inputs: taker.take(n_row.saturating_mul(inputs), 4),
            wide: taker.take(n_row.saturating_mul(wide), 4),
            gate: taker.take(n_row.saturating_mul(gate), 4),
            alpha: taker.take(n_row.saturating_mul(of_head), 4),
            beta: taker.take(n_row.saturating_mul(of_head), 4),
            mixed: taker.take(n_row.saturating_mul(mixed), 4),
        })
    }
}

/// Buffers of what layers add of the token itself: rows of float32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerLayerBuffers {
    /// `[n_row, n_layer, n_per_layer]`.
    pub(crate) inputs: DevicePtr,
    /// Likewise, or of one layer: what products leave.
    pub(crate) product: DevicePtr,
}

impl PerLayerBuffers {
    fn take(taker: &mut Taker, n_row: usize, arch: &Architecture) -> Option<PerLayerBuffers> {
        let n = arch.n_per_layer?.saturating_mul(arch.n_layer).saturating_mul(n_row);
        Some(PerLayerBuffers { inputs: taker.take(n, 4), product: taker.take(n, 4) })
    }
}

/// Buffers of generated rows, `n_col` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeBuffers {
    /// `[n_col]` of [`Row`].
    pub(crate) rows: DevicePtr,
    /// `[n_col, n_embd]`.
    pub(crate) x: DevicePtr,
    /// `[n_col, n_q]`.
    pub(crate) q: DevicePtr,
    /// `[n_col, n_q + 2 n_kv]`: where products leave queries, keys and values that kernels of their own go on with.
    pub(crate) qkv: Option<DevicePtr>,
    pub(crate) mixer: Option<MixerBuffers>,
    pub(crate) latent: Option<LatentBuffers>,
    /// `[n_col, q_rank]`: the row that queries of latent attention are made of.
    pub(crate) q_row: Option<Act>,
    /// `[n_col * n_head, n_plain or kv_rank]`: what products by head read.
    pub(crate) by_head: Option<Act>,
    pub(crate) per_layer: Option<PerLayerBuffers>,
    /// `[n_col, n_embd]`: what is normalised or scaled before it is added to `x`.
    pub(crate) term: Option<DevicePtr>,
    /// `[n_col, 2, n_kv]` float32: keys and values that go to a cache of Q8_0.
    pub(crate) fresh: Option<DevicePtr>,
    pub(crate) normed: Act,
    /// `[n_col, n_embd / 32]`: sums of squares of `x`, where a norm is left to the product that reads `normed`.
    pub(crate) squares: DevicePtr,
    pub(crate) attended: Act,
    /// Columns are rows times used experts.
    pub(crate) hidden: Act,
    /// Of the feed-forward that all rows of a mixture use.
    pub(crate) shared_hidden: Option<Act>,
    /// What the router and the experts of a mixture read where each has a norm of its own.
    pub(crate) branches: Option<[Act; 2]>,
    pub(crate) routing: Option<Routing>,
    /// Partial sums of attention, and its counters.
    pub(crate) attend_parts: DevicePtr,
    pub(crate) attend_counters: DevicePtr,
    /// Sums that the blocks of a product hand each other, and how often they did.
    pub(crate) parts: DevicePtr,
    pub(crate) n_stored: DevicePtr,
}

/// Buffers of prompt rows, `n_row` of them. Those of float16 have room for a second term where the model's products want one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromptBuffers {
    /// `[n_row]` of [`Row`].
    pub(crate) rows: DevicePtr,
    /// `[n_slot]` of spans.
    pub(crate) spans: DevicePtr,
    /// `[n_row, n_embd]` float32.
    pub(crate) x: DevicePtr,
    /// `[n_row, n_embd]` float16.
    pub(crate) normed: DevicePtr,
    /// `[n_row, n_q + 2 n_kv]` float32.
    pub(crate) qkv: DevicePtr,
    pub(crate) mixer: Option<MixerBuffers>,
    pub(crate) latent: Option<PromptLatent>,
    pub(crate) per_layer: Option<PerLayerBuffers>,
    /// `[n_row, n_embd]` float32: what is normalised or scaled before it is added to `x`.
    pub(crate) term: Option<DevicePtr>,
    /// `[n_row, n_q]` float16, or float32 for attention by rows.
    pub(crate) q: DevicePtr,
    /// `[n_row, n_q]` float16, or likewise of another mixer.
    pub(crate) attended: DevicePtr,
    /// `[n_row * n_used, n_ff]` float16, an eighth of the values.
    pub(crate) hidden: DevicePtr,
    /// `[n_row, n_ff]` float16, an eighth of the values: of the feed-forward that all rows of a mixture use.
    pub(crate) shared_hidden: Option<DevicePtr>,
    /// `[n_row, n_embd]` float16: what the experts of a mixture read where they have a norm of their own.
    pub(crate) branch: Option<DevicePtr>,
    pub(crate) routing: Option<Routing>,
    /// `[n_row, n_embd]` float32: what routers and recurrent layers read.
    pub(crate) floats: Option<Act>,
    /// Two slabs of float16 weights: one is unpacked while the other is multiplied.
    pub(crate) slab: DevicePtr,
    /// Of one slab.
    pub(crate) slab_bytes: usize,
    /// `[n_row]`: rows whose logits are wanted.
    pub(crate) heads: DevicePtr,
    /// `[n_logits, n_vocab]`.
    pub(crate) logits: DevicePtr,
    pub(crate) n_logits: usize,
}

/// Buffers of latent attention in prompts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromptLatent {
    pub(crate) rows: LatentBuffers,
    /// `[n_row, q_rank]` float16.
    pub(crate) q_row: DevicePtr,
    /// `[n_head, n_row, n_plain or kv_rank]` float16, always with room for a second term: a transposed matrix is of floats.
    pub(crate) by_head: DevicePtr,
}

/// Everything that steps share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    /// `[2, n_slot, max_pages]`: of all positions and, where windows have pages of their own, of these.
    pub(crate) page_tables: DevicePtr,
    /// Of each kind of rotation, one after the other: `[n_ctx, half_rot]` cosines and sines.
    pub(crate) turns: DevicePtr,
    /// `[n_col]`: which of a prompt's rows are sampled.
    pub(crate) heads: DevicePtr,
    /// The sampler's for prompts; all but the step's inputs and results are one with the other.
    pub(crate) sample_prompt: SampleBuffers,
    /// The sampler's for generated rows.
    pub(crate) sample_generated: SampleBuffers,
    /// A sequence that begins, and its prompt, `[n_ctx]`.
    pub(crate) begin: DevicePtr,
    pub(crate) begin_ids: DevicePtr,
    /// Input of the output matrix.
    pub(crate) head_input: Act,
    /// `[n_col, n_vocab]`.
    pub(crate) logits: DevicePtr,
}

/// All buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub(crate) decode: DecodeBuffers,
    pub(crate) prompt: PromptBuffers,
    pub(crate) shared: Shared,
}

impl Buffers {
    /// Takes every buffer.
    pub(crate) fn take(taker: &mut Taker, arch: &Architecture, sizes: &Sizes) -> Buffers {
        let n_used = arch.mixture().map_or(1, |mixture| mixture.n_used);
        let (n_col, n_row, n_ff) = (sizes.n_col, sizes.n_row, arch.widest_ff());
        let n_shared = widest_shared(arch);
        let mut mixtures = arch.feed_forward.iter().filter_map(FeedForward::mixture);
        let has_branches = mixtures.any(|mixture| mixture.has_branch_norms);
        let n_q = heads::most(arch, |heads| heads.n_q());
        let n_qkv = arch.mixers.iter().map(heads::n_qkv_of).max().unwrap_or(0);
        let latent = Widths::of(arch);
        let n_mixed = arch.mixers.iter().map(heads::n_mixed).max().unwrap_or(0);
        let max_pages = sizes.n_ctx.div_ceil(PAGE);
        let is_q8 = sizes.kv_type == KvType::Q8_0;
        let attends_apart = apart::attention(arch);
        let part_bytes = |heads: Heads| match attends_apart {
            true => attend_rows::part_bytes(n_col, heads.n_head, heads.head_dim),
            false => attend::part_bytes(n_col, heads.n_head, heads.n_kv_head, heads.head_dim),
        };
        let n_counter = |heads: Heads| n_col * attend::n_chunk(heads.n_head, heads.n_kv_head);
        let decode = DecodeBuffers {
            rows: taker.take(n_col, size_of::<Row>()),
            x: taker.take(n_col * arch.n_embd, 4),
            q: taker.take(n_col * n_q, 4),
            qkv: apart::heads(arch).then(|| taker.take(n_col * n_qkv, 4)),
            mixer: MixerBuffers::take(taker, n_col, arch),
            latent: latent.map(|widths| LatentBuffers::take(taker, n_col, (widths, sizes))),
            q_row: latent.map(|widths| Act::take(taker, n_col, widths.q_rank)),
            by_head: latent.map(|Widths { n_head, by_head, .. }| Act::take(taker, n_col * n_head, by_head)),
            per_layer: PerLayerBuffers::take(taker, n_col, arch),
            term: apart::terms(arch).then(|| taker.take(n_col * arch.n_embd, 4)),
            fresh: (is_q8 && !attends_apart)
                .then(|| taker.take(n_col * 2 * heads::most(arch, heads::n_own_kv), 4)),
            normed: Act::take(taker, n_col, arch.n_embd),
            squares: taker.take(n_col * (arch.n_embd / 32), 4),
            attended: Act::take(taker, n_col, n_mixed),
            hidden: Act::take(taker, n_col * n_used, n_ff),
            shared_hidden: (n_shared > 0).then(|| Act::take(taker, n_col, n_shared)),
            branches: has_branches.then(|| [(); 2].map(|()| Act::take(taker, n_col, arch.n_embd))),
            routing: Routing::take(taker, n_col, 1, arch),
            attend_parts: taker.take(heads::most(arch, part_bytes), 1),
            attend_counters: taker.take(heads::most(arch, n_counter), 4),
            parts: taker.take(product_half::handed_bytes(n_col), 1),
            n_stored: taker.take(product_half::MOST_APART, 4),
        };
        let n_logits = (LOGITS_BYTES / 4 / arch.n_vocab).clamp(1, n_row);
        let half = 2 * sizes.n_term;
        let routing = Routing::take(taker, n_row, sizes.n_term, arch);
        let has_rule = arch.mixers.iter().any(|mixer| matches!(mixer, Mixer::DeltaRule(_)));
        let reads_floats = routing.is_some() || has_rule;
        let slab_bytes = slab_bytes(arch);
        let prompt = PromptBuffers {
            rows: taker.take(n_row, size_of::<Row>()),
            spans: taker.take(sizes.n_slot, 16),
            x: taker.take(n_row * arch.n_embd, 4),
            normed: taker.take(n_row * arch.n_embd, half),
            qkv: taker.take(n_row * n_qkv, 4),
            mixer: MixerBuffers::take(taker, n_row, arch),
            latent: latent.map(|widths| PromptLatent {
                rows: LatentBuffers::take(taker, n_row, (widths, sizes)),
                q_row: taker.take(n_row * widths.q_rank, half),
                by_head: taker.take(n_row.saturating_mul(widths.n_head * widths.by_head), 2 * 2),
            }),
            per_layer: PerLayerBuffers::take(taker, n_row, arch),
            term: apart::terms(arch).then(|| taker.take(n_row * arch.n_embd, 4)),
            q: taker.take(n_row * n_q, if attends_apart { 4 } else { half }),
            attended: taker.take(n_row * n_mixed, half),
            hidden: taker.take(n_row * n_used * n_ff, half),
            shared_hidden: (n_shared > 0).then(|| taker.take(n_row * n_shared, half)),
            branch: has_branches.then(|| taker.take(n_row * arch.n_embd, half)),
            floats: reads_floats.then(|| Act::take(taker, n_row, arch.n_embd)),
            routing,
            slab: taker.take(2 * slab_bytes, 1),
            slab_bytes,
            heads: taker.take(n_row, 4),
            logits: taker.take(n_logits * arch.n_vocab, 4),
            n_logits,
        };
        let bytes = SampleLimits::of(sizes, arch.n_vocab).bytes();
        let sample_generated = SampleBuffers {
            rows: taker.take(bytes.rows as usize, 1),
            area: taker.take(bytes.area as usize, 1),
            last: taker.take(bytes.last as usize, 1),
            counts: taker.take(bytes.counts as usize, 1),
            out: taker.take(bytes.out as usize, 1),
            scratch: taker.take(bytes.scratch as usize, 1),
        };
        let n_table = 1 + usize::from(sizes.pages.window.is_some());
        let shared = Shared {
            page_tables: taker.take(n_table * sizes.n_slot * max_pages, 4),
            turns: taker.take(heads::half_rots(arch).iter().sum::<usize>() * sizes.n_ctx, 8),
            heads: taker.take(n_col, 4),
            sample_prompt: SampleBuffers {
                rows: taker.take(bytes.rows as usize, 1),
                area: taker.take(bytes.area as usize, 1),
                out: taker.take(bytes.out as usize, 1),
                ..sample_generated
            },
            sample_generated,
            begin: taker.take(1, 16),
            begin_ids: taker.take(sizes.n_ctx, 4),
            head_input: Act::take(taker, n_col, arch.n_embd),
            logits: taker.take(n_col * arch.n_vocab, 4),
        };
        Buffers { decode, prompt, shared }
    }
}
