//! The transformer as plain data: every size and choice in which the supported families differ.
//!
//! Units: `n_*` are counts of values or heads, lengths are in tokens, frequencies in radians a token. Filled in by
//! `architectures/*`, read by every executor. Biases and a tied output follow from the tensors present ([`crate::weights`]).

mod mixer;

pub use mixer::{Conv, DeltaRule, Heads, KvSource, Latent, Mixer};

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`, as [`crate::architectures::FAMILIES`] names it.
    pub family: &'static str,
    /// Transformer layers.
    pub n_layer: usize,
    /// Blocks after the last layer in the file, which predict further tokens and which no inference here runs (`nextn_predict_layers`).
    pub n_nextn: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Rows of the embedding and of the output matrix.
    pub n_vocab: usize,
    /// The longest context the model was made for, in tokens.
    pub n_ctx_train: usize,
    /// The normalisation before and after attention and feed-forward, where there is one, and before the output.
    pub norm: Norm,
    /// Whether what attention and feed-forward add to the residual stream is normalised first.
    pub has_post_norms: bool,
    /// How a token's position enters.
    pub position: Position,
    /// By layer: what mixes a token with those before it.
    pub mixers: Vec<Mixer>,
    /// What attention does, in the layers that have it.
    pub attention: Attention,
    /// By layer: the feed-forward's kind and sizes.
    pub feed_forward: Vec<FeedForward>,
    /// What the embedding, the residual's terms and the logits are multiplied by.
    pub scales: Scales,
    /// `cap * tanh(logit / cap)` bounds the scaled logits.
    pub logit_cap: Option<f32>,
    /// Width of what each layer adds of the token itself, after its feed-forward ([`crate::stage::Stage::FfnOut`]).
    pub n_per_layer: Option<usize>,
    /// Whether the residual stream is multiplied by a factor after each layer.
    pub has_layer_scales: bool,
}

impl Architecture {
    /// The heads of the layers that have keys and values of their own to keep: the layers of a KV cache.
    pub fn kv_layers(&self) -> impl Iterator<Item = Heads> {
        self.mixers.iter().filter_map(Mixer::heads).filter(Heads::keeps)
    }

    /// Which of those an attention layer reads, counted from 0.
    #[must_use]
    pub fn cache_of(&self, layer: usize) -> usize {
        let source = match self.heads(layer) {
            Some(Heads { source: KvSource::Layer(earlier), .. }) => earlier,
            _ => layer,
        };
        self.mixers.iter().take(source).filter_map(Mixer::heads).filter(Heads::keeps).count()
    }

    /// The widest window of the layers that have one.
    #[must_use]
    pub fn widest_window(&self) -> Option<usize> {
        self.mixers.iter().filter_map(Mixer::heads).filter_map(|heads| heads.window).max()
    }

    /// The heads of a layer that has attention.
    #[must_use]
    pub fn heads(&self, layer: usize) -> Option<Heads> {
        self.mixers.get(layer)?.heads()
    }

    /// The first kind of rotation, where there is one.
    #[must_use]
    pub fn first_rope(&self) -> Option<&Rope> {
        match &self.position {
            Position::Rope(ropes) => ropes.kinds.first(),
            Position::Learned => None,
        }
    }

    /// Values of a sequence's state beside keys and values, in all layers; 0 where all layers have attention.
    #[must_use]
    pub fn n_state(&self) -> usize {
        self.mixers.iter().map(Mixer::n_state).sum()
    }
}

/// Constants that values are multiplied by; 1 changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// A token's embedding.
    pub embedding: f32,
    /// What attention and feed-forward add to the residual stream.
    pub residual: f32,
    /// The logits.
    pub logits: f32,
}

impl Scales {
    /// Nothing is scaled.
    pub const NONE: Scales = Scales { embedding: 1.0, residual: 1.0, logits: 1.0 };
}

/// Normalisation over a row of `n_embd` values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Root mean square or layer norm.
    pub kind: NormKind,
    /// Added to the variance before the square root.
    pub eps: f32,
}

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`.
    Layer,
}

/// How a token's position enters.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Rotation of the queries and keys.
    Rope(Ropes),
    /// A learned vector is added to the embedding.
    Learned,
}

/// Which rotation each layer has.
#[derive(Clone, Debug, PartialEq)]
pub struct Ropes {
    /// Those that differ; at least one.
    pub kinds: Vec<Rope>,
    /// By layer: an index of `kinds`, or `None` for a layer whose queries and keys are not rotated.
    pub layers: Vec<Option<usize>>,
}

impl Ropes {
    /// One rotation for all layers.
    #[must_use]
    pub fn everywhere(rope: Rope, n_layer: usize) -> Ropes {
        Ropes { kinds: vec![rope], layers: vec![Some(0); n_layer] }
    }
}

/// Rotary position embedding (Su et al., arXiv 2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which two values of a head turn together.
    pub pairing: Pairing,
    /// How many of a head's values are rotated; the rest pass through.
    pub n_rot: usize,
    /// The base of the geometric sequence of frequencies.
    pub base: f32,
    /// How the frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `(x[2i], x[2i+1])`.
    Adjacent,
    /// `(x[i], x[i + n_rot/2])`.
    HalfSplit,
}

/// How RoPE's frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Each frequency divided by the file's `rope_freqs.weight` (Llama 3.1 and later).
    Llama3 {
        /// `[n_rot / 2]`.
        factors: Vec<f32>,
    },
    /// Each frequency divided by one of two lists (LongRoPE, arXiv 2402.13753; Phi-3 128k).
    LongRope {
        /// `[n_rot / 2]`, for contexts up to `original_context`.
        short: Vec<f32>,
        /// `[n_rot / 2]`, for longer ones.
        long: Vec<f32>,
        /// In tokens.
        original_context: usize,
        /// Multiplies cosine and sine.
        attn_factor: f32,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// Ratio of the stretched to the original context.
        factor: f32,
        /// In tokens.
        original_context: usize,
        /// Turns over the original context above which a frequency stays as trained.
        beta_fast: f32,
        /// Turns over the original context below which a frequency is divided by `factor`.
        beta_slow: f32,
        /// Whether the pairs between which frequencies are mixed are whole numbers. Files do not say: the published gpt-oss was trained
        /// without rounding, everything else with it (`truncate` in transformers' `rope_parameters`).
        rounded: bool,
        /// Multiplies cosine and sine.
        attn_factor: f32,
    },
}

/// What attention does, the same in all layers; [`Heads`] differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Multiplies the dot products before the softmax.
    pub scale: f32,
    /// Each query head has one more learned logit in the softmax's denominator.
    pub sinks: bool,
    /// `cap * tanh(score / cap)` bounds the scaled scores before the mask.
    pub score_cap: Option<f32>,
    /// An RMS norm of queries and keys, before they are rotated.
    pub qk_norm: Option<QkNorm>,
    /// An RMS norm of each head of the values, without a weight.
    pub v_norm: bool,
    /// A factor of the queries that grows with their position.
    pub temperature: Option<Temperature>,
    /// Whether the output is multiplied by the sigmoid of a gate that stands beside each head's query.
    pub gated: bool,
}

/// Over what queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Over each head, with one weight `[head_dim]` for all of them.
    Head,
    /// Over the whole row, with a weight `[n_q]` for queries and one `[n_kv]` for keys.
    Row,
}

/// Queries at position `p` are multiplied by `1 + scale * ln(1 + floor(p / context))` after they are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// How fast the factor grows.
    pub scale: f32,
    /// In tokens.
    pub context: usize,
}

impl Temperature {
    /// The factor at a position.
    #[must_use]
    pub fn at(&self, position: usize) -> f32 {
        1.0 + self.scale * ((1 + position / self.context) as f32).ln()
    }
}

impl Attention {
    /// Rows of the projection that gives queries: in each head the query, then its gate where there is one.
    #[must_use]
    pub fn n_q_row(&self, heads: Heads) -> usize {
        heads.n_q() * if self.gated { 2 } else { 1 }
    }
}

impl Architecture {
    /// The mixture of experts of the layers that have one: they differ in widths at most.
    #[must_use]
    pub fn mixture(&self) -> Option<&Mixture> {
        self.feed_forward.iter().find_map(FeedForward::mixture)
    }

    /// The widest feed-forward: that of a dense layer, of one expert or of the shared ones.
    #[must_use]
    pub fn widest_ff(&self) -> usize {
        let of_layer = |f: &FeedForward| {
            f.n_ff.max(f.mixture().and_then(|mixture| mixture.shared).map_or(0, |shared| shared.n_ff))
        };
        self.feed_forward.iter().map(of_layer).max().unwrap_or(0)
    }
}

/// A layer's feed-forward: its kind and sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedForward {
    /// Dense or a mixture of experts, gated or plain.
    pub kind: FeedForwardKind,
    /// The hidden width; with experts, that of one expert.
    pub n_ff: usize,
    /// Applied to the gate, or to the hidden row of the plain kind.
    pub activation: Activation,
}

impl FeedForward {
    /// The mixture of experts, where it is one.
    #[must_use]
    pub fn mixture(&self) -> Option<&Mixture> {
        match &self.kind {
            FeedForwardKind::Experts(mixture) => Some(mixture),
            _ => None,
        }
    }
}

/// Dense or a mixture of experts, gated or plain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedForwardKind {
    /// `down(act(gate(x)) * up(x))`.
    Gated,
    /// `down(act(up(x)))`.
    Plain,
    /// A router picks some of many gated feed-forwards, whose outputs are summed with weights.
    Experts(Mixture),
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// How many experts there are.
    pub n_expert: usize,
    /// How many a token uses.
    pub n_used: usize,
    /// How they are chosen and weighted.
    pub router: Router,
    /// A gated feed-forward that every token uses besides.
    pub shared: Option<Shared>,
    /// Whether the experts and what all tokens use are branches with norms of their own, and the router reads the residual stream.
    pub has_branch_norms: bool,
}

/// How a row's experts are chosen and weighted. Each expert has a score, which follows from its logit as `gating` says; the choice is by
/// rank, which is the score, plus a bias where there is one; the weights follow from the scores of the chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// From logits to scores.
    pub gating: Gating,
    /// Whether a bias is added to the scores for the choice alone.
    pub has_choice_bias: bool,
    /// Experts outside the best groups are not chosen.
    pub groups: Option<Groups>,
    /// Whether the chosen scores are divided by their sum.
    pub is_normalised: bool,
    /// Multiplies the weights.
    pub scale: f32,
}

impl Router {
    /// The softmax of the chosen logits, as most mixtures have it.
    pub const SOFTMAX_OF_CHOSEN: Router = Router {
        gating: Gating::SoftmaxOfChosen,
        has_choice_bias: false,
        groups: None,
        is_normalised: true,
        scale: 1.0,
    };
}

/// From a router's logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// The softmax of all logits.
    Softmax,
    /// The sigmoid of each logit.
    Sigmoid,
    /// The logits themselves; the weights are the softmax of the chosen, which is the softmax of all divided by the sum of the chosen.
    SoftmaxOfChosen,
}

/// Experts in groups of consecutive ones. A group's rank is the best of its experts', or the sum of its two best where scores are sigmoids
/// (arXiv 2405.04434, section 2.2.2; arXiv 2412.19437, section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many there are, all of one size.
    pub n_group: usize,
    /// How many may have chosen experts.
    pub n_used: usize,
}

/// The feed-forward that every token of a mixture uses: one gated feed-forward, however many experts it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The hidden width.
    pub n_ff: usize,
    /// Whether its output is multiplied by the sigmoid of a logit of its own.
    pub has_gate: bool,
}

/// The feed-forward's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `silu(gate) * up`, with `silu(x) = x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU (Hendrycks and Gimpel, arXiv 1606.08415).
    GeluTanh,
    /// `(clamp(up, -limit, limit) + 1) * g * sigmoid(alpha * g)` with `g = min(gate, limit)` (gpt-oss).
    ClampedSwiglu {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Bound on gate and up.
        limit: f32,
    },
}
