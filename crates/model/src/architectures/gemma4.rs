//! Gemma 4, text: as Gemma 3, with heads of another size on the layers that see all, values that are normalised, layers that read the keys
//! and values of earlier ones, an embedding of the token for each layer, and experts beside the dense feed-forward.
//!
//! Norms' weights are used as they stand. Source: the models' reference implementation in transformers.

use super::{Family, Keys, Norms};
use crate::architecture::{
    Activation, Architecture, Heads, KvSource, Mixer, Pairing, QkNorm, Rope, RopeScaling, Router,
};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "gemma4", read, norms: Norms::AROUND, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.gated_decoder(Pairing::HalfSplit)?;
    architecture.scales.embedding = (architecture.n_embd as f32).sqrt();
    architecture.logit_cap = keys.cap("final_logit_softcapping")?;
    architecture.feed_forward.iter_mut().for_each(|layer| layer.activation = Activation::GeluTanh);
    keys.add_experts_beside(&mut architecture, Router::SOFTMAX_OF_CHOSEN)?;
    architecture.n_per_layer = keys.n_per_layer(architecture.n_layer)?;
    architecture.has_layer_scales = true;
    let attention = &mut architecture.attention;
    (attention.scale, attention.v_norm, attention.qk_norm) = (1.0, true, Some(QkNorm::Head));
    heads(keys, &mut architecture)?;
    Ok(architecture)
}

/// The heads of layers that see a window, which have a size and a rotation of their own, and of the others, whose values may be their keys.
fn heads(keys: &Keys<'_>, architecture: &mut Architecture) -> Result<(), ModelError> {
    let head_dim = keys.head_dim(["attention.key_length_swa", "attention.value_length_swa"])?;
    let head_dim = head_dim.or(architecture.heads(0).map(|heads| heads.head_dim)).unwrap_or_default();
    let n_rot = keys.n_rot("rope.dimension_count_swa", head_dim)?;
    let base = keys.rope_base("rope.freq_base_swa", 10_000.0)?;
    let rope = Rope { pairing: Pairing::HalfSplit, n_rot, base, scaling: RopeScaling::None };
    let local = keys.windows(architecture, None, Some(rope))?;
    let n_own = architecture.n_layer - keys.shared_kv_layers(architecture.n_layer)?;
    let mut all: Vec<Heads> = architecture.mixers.iter().filter_map(Mixer::heads).collect();
    for n in 0..all.len() {
        if local[n] {
            all[n].head_dim = head_dim;
        } else if !["attn_v", "attn_qkv"]
            .iter()
            .any(|name| keys.has_tensor(&format!("blk.{n}.{name}.weight")))
        {
            all[n].source = KvSource::KeysAlone;
        }
        if n >= n_own {
            all[n].source = keys.shared_kv((&all, &local), n_own, n)?;
        }
    }
    architecture.mixers = all.into_iter().map(Mixer::Attention).collect();
    Ok(())
}
