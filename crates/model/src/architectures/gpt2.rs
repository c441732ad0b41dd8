//! GPT-2: layer norm, learned positions, biases everywhere, a plain feed-forward and a tied output.

use super::{Family, Keys, Norms};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Mixer, NormKind, Position, Scales,
};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    read,
    norms: Norms::BEFORE,
    biases: &["attn_qkv", "attn_output", "ffn_up", "ffn_down"],
};

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let (n_layer, n_embd, n_ctx_train) = keys.sizes()?;
    Ok(Architecture {
        family: FAMILY.name,
        n_layer,
        n_embd,
        n_vocab: keys.n_vocab(n_embd)?,
        n_ctx_train,
        norm: keys.norm(NormKind::Layer)?,
        has_post_norms: keys.has_post_norms(),
        position: Position::Learned,
        mixers: vec![Mixer::Attention; n_layer],
        attention: keys.attention(n_layer, n_embd, keys.n_kv_head()?)?,
        feed_forward: FeedForward {
            kind: FeedForwardKind::Plain,
            n_ff: keys.n_ff()?,
            activation: Activation::GeluTanh,
        },
        scales: Scales::NONE,
        logit_cap: None,
    })
}
