//! Which models can be made up? The sizes of published ones, as their files' metadata has them.

/// A model's sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset {
    pub(super) name: &'static str,
    /// `general.architecture`.
    pub(super) family: &'static str,
    pub(super) n_layer: usize,
    pub(super) n_embd: usize,
    pub(super) n_ff: usize,
    pub(super) n_head: usize,
    pub(super) n_head_kv: usize,
    pub(super) head_size: usize,
    pub(super) n_vocab: usize,
    pub(super) n_ctx: usize,
    pub(super) rope_base: f32,
    /// The output matrix is the embedding.
    pub(super) is_tied: bool,
    /// Attention sees so many positions; 0 for all.
    pub(super) window: usize,
    pub(super) mixture: Option<Mixture>,
    pub(super) recurrent: Option<Recurrent>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    pub(super) n_expert: usize,
    pub(super) n_used: usize,
    pub(super) n_ff: usize,
}

/// Layers with the gated delta rule; each `interval`th has attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recurrent {
    pub(super) n_conv: usize,
    pub(super) state: usize,
    pub(super) n_key_head: usize,
    pub(super) n_value_head: usize,
    pub(super) interval: usize,
    /// Values of a head that turn with the position.
    pub(super) n_rotated: usize,
}

const NONE: Preset = Preset {
    name: "",
    family: "llama",
    n_layer: 0,
    n_embd: 0,
    n_ff: 0,
    n_head: 0,
    n_head_kv: 0,
    head_size: 64,
    n_vocab: 0,
    n_ctx: 0,
    rope_base: 1e4,
    is_tied: false,
    window: 0,
    mixture: None,
    recurrent: None,
};

/// Layers, embedding, feed-forward, heads, key heads, head size, vocabulary, context.
const fn sizes(name: &'static str, family: &'static str, n: [usize; 8]) -> Preset {
    let [n_layer, n_embd, n_ff, n_head, n_head_kv, head_size, n_vocab, n_ctx] = n;
    Preset { name, family, n_layer, n_embd, n_ff, n_head, n_head_kv, head_size, n_vocab, n_ctx, ..NONE }
}

/// All of them. `qwen35-like` has three of four layers with the gated delta rule, and about 9 billion parameters.
pub(super) const ALL: [Preset; 11] = [
    Preset {
        rope_base: 1e5,
        is_tied: true,
        ..sizes("smollm2-135m", "llama", [30, 576, 1536, 9, 3, 64, 49_152, 8192])
    },
    Preset {
        rope_base: 1e6,
        is_tied: true,
        ..sizes("qwen2.5-0.5b", "qwen2", [24, 896, 4864, 14, 2, 64, 151_936, 32_768])
    },
    Preset {
        rope_base: 1e6,
        is_tied: true,
        ..sizes("qwen2.5-1.5b", "qwen2", [28, 1536, 8960, 12, 2, 128, 151_936, 32_768])
    },
    Preset {
        rope_base: 5e5,
        is_tied: true,
        ..sizes("llama-3.2-1b", "llama", [16, 2048, 8192, 32, 8, 64, 128_256, 131_072])
    },
    Preset { window: 2047, ..sizes("phi-3-mini", "phi3", [32, 3072, 8192, 32, 32, 96, 32_064, 4096]) },
    Preset { rope_base: 5e5, ..sizes("llama-3-8b", "llama", [32, 4096, 14_336, 32, 8, 128, 128_256, 8192]) },
    Preset {
        rope_base: 1e6,
        ..sizes("qwen2.5-32b", "qwen2", [64, 5120, 27_648, 40, 8, 128, 152_064, 32_768])
    },
    Preset {
        rope_base: 1.5e5,
        window: 128,
        mixture: Some(Mixture { n_expert: 32, n_used: 4, n_ff: 2880 }),
        ..sizes("gpt-oss-20b", "gpt-oss", [24, 2880, 2880, 64, 8, 64, 201_088, 131_072])
    },
    Preset { rope_base: 1e6, ..sizes("qwen3-8b", "qwen3", [36, 4096, 12_288, 32, 8, 128, 151_936, 40_960]) },
    Preset {
        rope_base: 1e6,
        mixture: Some(Mixture { n_expert: 128, n_used: 8, n_ff: 768 }),
        ..sizes("qwen3-30b-a3b", "qwen3moe", [48, 2048, 6144, 32, 4, 128, 151_936, 40_960])
    },
    Preset {
        rope_base: 1e7,
        recurrent: Some(Recurrent {
            n_conv: 4,
            state: 128,
            n_key_head: 16,
            n_value_head: 32,
            interval: 4,
            n_rotated: 64,
        }),
        ..sizes("qwen35-like", "qwen35", [32, 4096, 12_288, 16, 4, 256, 151_936, 262_144])
    },
];
