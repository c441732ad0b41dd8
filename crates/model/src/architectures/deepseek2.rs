//! DeepSeek V2 to V3.1 and R1, Kimi K2, GLM-4.7-Flash: latent attention, dense layers in front, experts with shared ones.
//!
//! Routers of V2 are softmaxes whose weights stand as they are, those with a bias of the choice sigmoids; keys say so in newer files.
//! Sources: arXiv 2405.04434, arXiv 2412.19437.

use super::{Family, Keys, Norms};
use crate::architecture::{Architecture, Gating, Pairing, Router};
use crate::error::ModelError;

pub(super) const FAMILY: Family = Family { name: "deepseek2", read, norms: Norms::BEFORE, biases: &[] };

fn read(keys: &Keys<'_>) -> Result<Architecture, ModelError> {
    let mut architecture = keys.latent_decoder(Pairing::Adjacent)?;
    keys.yarn_of_scores(&mut architecture)?;
    let has_bias = |n: usize| keys.has_tensor(&format!("blk.{n}.exp_probs_b.bias"));
    let has_choice_bias = (0..architecture.n_layer).any(has_bias);
    let gating = if has_choice_bias { Gating::Sigmoid } else { Gating::Softmax };
    let router = Router { gating, has_choice_bias, is_normalised: false, ..Router::SOFTMAX_OF_CHOSEN };
    keys.add_experts(&mut architecture, router, false)?;
    Ok(architecture)
}
