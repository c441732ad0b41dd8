//! What mixes a token with those before it, by layer: attention over the KV cache, or a recurrence whose state has a fixed size.

/// A layer's mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// [`super::Attention`] with these heads.
    Attention(Heads),
    /// The same with keys and values that are linear maps of one short row, which is all that is kept of a position (multi-head latent
    /// attention, arXiv 2405.04434, section 2.1). No norms of queries and keys, gates or sinks.
    Latent(Latent),
    /// A short convolution between two gates (LFM2, arXiv 2511.23404).
    ShortConv(Conv),
    /// The gated delta rule (Yang et al., arXiv 2412.06464) after a short convolution.
    DeltaRule(DeltaRule),
}

/// The heads of a layer's attention, and what they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Values in a head of queries, keys and values alike.
    pub head_dim: usize,
    /// How many of the latest positions a token sees, itself included; `None` for all.
    pub window: Option<usize>,
    /// Where keys and values come from.
    pub source: KvSource,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvSource {
    /// Each from a projection.
    Projections,
    /// The values are the keys as they were projected, before their norm and rotation.
    KeysAlone,
    /// From the cache of this earlier layer, whose heads are the same.
    Layer(usize),
    /// One row is key and value alike, as it is kept.
    OneRow,
}

impl Heads {
    /// Values in a row of queries: `n_head * head_dim`.
    #[must_use]
    pub fn n_q(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Values in a row of keys, and in one of values: `n_kv_head * head_dim`.
    #[must_use]
    pub fn n_kv(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Whether the layer has keys and values of its own to keep.
    #[must_use]
    pub fn keeps(&self) -> bool {
        !matches!(self.source, KvSource::Layer(_))
    }

    /// Whether values are kept beside the keys.
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.source != KvSource::OneRow
    }
}

/// Sizes of latent attention. A head of queries and keys has a part without position and one that is rotated; this part of the keys is the
/// same for all heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latent {
    /// Heads.
    pub n_head: usize,
    /// Width of the row that queries are made of; `None` where they are made of the layer's own.
    pub q_rank: Option<usize>,
    /// Width of the row that keys and values are made of.
    pub kv_rank: usize,
    /// Values of a head's rotated part.
    pub n_rot: usize,
    /// Values of its other part.
    pub n_plain: usize,
    /// Values in a head of values.
    pub n_value: usize,
}

impl Latent {
    /// Values in a head of queries, and in one of keys.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.n_plain + self.n_rot
    }

    /// Heads as attention over the kept rows sees them: all queries share one key, whose rotated part comes first.
    #[must_use]
    pub fn heads(&self) -> Heads {
        let head_dim = self.n_rot + self.kv_rank;
        Heads { n_head: self.n_head, n_kv_head: 1, head_dim, window: None, source: KvSource::OneRow }
    }
}

/// A causal convolution of each channel with its own taps (depthwise): `y[t] = sum_i taps[i] * x[t - (n_tap - 1) + i]`, inputs before
/// the sequence being 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Taps of a channel, at least 2; the last meets the newest input.
    pub n_tap: usize,
    /// Channels.
    pub n_channel: usize,
}

impl Conv {
    /// Values of the state: the last `n_tap - 1` inputs, oldest first, `[n_tap - 1, n_channel]`.
    #[must_use]
    pub fn n_state(&self) -> usize {
        (self.n_tap - 1) * self.n_channel
    }
}

/// Sizes of a gated delta rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaRule {
    /// Heads of queries, and as many of keys; divides `n_v_head`. Value head `h` uses the query and the key of head `h % n_k_head`.
    pub n_k_head: usize,
    /// Heads of values, each with a state matrix of its own.
    pub n_v_head: usize,
    /// Values in a head of queries, keys and values alike.
    pub head_dim: usize,
    /// Of queries, keys and values, in this order; its taps.
    pub n_tap: usize,
}

impl DeltaRule {
    /// Values in a row of queries, and in one of keys.
    #[must_use]
    pub fn n_k(&self) -> usize {
        self.n_k_head * self.head_dim
    }

    /// Values in a row of values.
    #[must_use]
    pub fn n_v(&self) -> usize {
        self.n_v_head * self.head_dim
    }

    /// The convolution of queries, keys and values.
    #[must_use]
    pub fn conv(&self) -> Conv {
        Conv { n_tap: self.n_tap, n_channel: 2 * self.n_k() + self.n_v() }
    }

    /// Values of all heads' state matrices, `[n_v_head, head_dim of keys, head_dim of values]`.
    #[must_use]
    pub fn n_matrix(&self) -> usize {
        self.n_v() * self.head_dim
    }
}

impl Mixer {
    /// Those of attention.
    #[must_use]
    pub fn heads(&self) -> Option<Heads> {
        match self {
            Mixer::Attention(heads) => Some(*heads),
            Mixer::Latent(latent) => Some(latent.heads()),
            Mixer::ShortConv(_) | Mixer::DeltaRule(_) => None,
        }
    }

    /// Values of a sequence's state in such a layer, in float32: the convolution's inputs, then the matrices.
    #[must_use]
    pub fn n_state(&self) -> usize {
        match self {
            Mixer::Attention(_) | Mixer::Latent(_) => 0,
            Mixer::ShortConv(conv) => conv.n_state(),
            Mixer::DeltaRule(rule) => rule.conv().n_state() + rule.n_matrix(),
        }
    }
}
