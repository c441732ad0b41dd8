//! GPT-2: layer norm, learned positions, biases everywhere, a plain feed-forward and a tied output.

use super::{Family, Keys, Norms, Sizes};
use crate::architecture::{Activation, Architecture, FeedForwardKind, Mixer, NormKind, Position, Scales};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    read,
    norms: Norms::BEFORE,
    biases: &["attn_qkv", "attn_output", "ffn_up", "ffn_down"],
};

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let Sizes { n_layer, n_nextn, n_embd, n_ctx_train } = keys.sizes()?;
    let heads = keys.heads(n_embd, &keys.n_kv_heads(n_layer)?)?;
    Ok(Architecture {
        family: FAMILY.name,
        n_layer,
        n_nextn,
        n_embd,
        n_vocab: keys.n_vocab(n_embd)?,
        n_ctx_train,
        norm: keys.norm(NormKind::Layer)?,
        has_post_norms: keys.has_post_norms(),
        position: Position::Learned,
        attention: Keys::attention(heads.first().map_or(0, |heads| heads.head_dim)),
        mixers: heads.into_iter().map(Mixer::Attention).collect(),
        feed_forward: keys.feed_forward(FeedForwardKind::Plain, Activation::GeluTanh, n_layer)?,
        scales: Scales::NONE,
        logit_cap: None,
        n_per_layer: None,
        has_layer_scales: false,
    })
}
