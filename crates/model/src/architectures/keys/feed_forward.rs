//! The feed-forward's keys: widths by layer, experts and their router.

use std::ops::RangeInclusive;

use gguf::Value;

use super::{Keys, N_WIDTH};
use crate::architecture::{
    Activation, Architecture, FeedForward, FeedForwardKind, Gating, Groups, Mixture, Router, Shared,
};
use crate::error::ModelError;

const N_EXPERT: RangeInclusive<usize> = 1..=1 << 16;
/// Experts that a token may use: published models have 1 to 12, and a step's buffers grow with it.
const MAX_USED_EXPERT: usize = 256;

impl Keys<'_> {
    /// A dense feed-forward of `feed_forward_length` for each layer, which may be one number or a list. Files whose layers are all mixtures may
    /// leave it out: then it is an expert's.
    ///
    /// # Errors
    /// Absent, out of range, a list of another length.
    pub fn feed_forward(
        &self,
        kind: FeedForwardKind,
        activation: Activation,
        n_layer: usize,
    ) -> Result<Vec<FeedForward>, ModelError> {
        let key = "feed_forward_length";
        let widths = match self.gguf.metadata().get(&self.name(key)) {
            Some(Value::Array(_)) => self.listed(key, N_WIDTH, n_layer)?,
            _ => {
                let default = self.usize_of("expert_feed_forward_length")?;
                vec![self.size(key, N_WIDTH, default)?; n_layer]
            }
        };
        Ok(widths.into_iter().map(|n_ff| FeedForward { kind, n_ff, activation }).collect())
    }

    /// Makes the layers from `leading_dense_block_count` on mixtures of experts, where the file has any. `default` is what the family's router
    /// does unless keys say otherwise; `has_gate` is whether shared experts have one.
    ///
    /// # Errors
    /// Out of range, or counts that contradict each other.
    pub fn add_experts(
        &self,
        architecture: &mut Architecture,
        default: Router,
        has_gate: bool,
    ) -> Result<(), ModelError> {
        if self.usize_of("expert_count")?.unwrap_or(0) == 0 {
            return Ok(());
        }
        let n_expert = self.size("expert_count", N_EXPERT, None)?;
        let n_used = self.size("expert_used_count", 1..=n_expert.min(MAX_USED_EXPERT), None)?;
        let router = self.router(default, [n_expert, n_used])?;
        let n_dense = self.size("leading_dense_block_count", 0..=architecture.n_layer, Some(0))?;
        for layer in architecture.feed_forward.iter_mut().skip(n_dense) {
            layer.n_ff = self.size("expert_feed_forward_length", N_WIDTH, Some(layer.n_ff))?;
            let shared = self.shared(layer.n_ff)?.map(|n_ff| Shared { n_ff, has_gate });
            let has_branch_norms = false;
            layer.kind =
                FeedForwardKind::Experts(Mixture { n_expert, n_used, router, shared, has_branch_norms });
        }
        Ok(())
    }

    /// Adds mixtures of experts to layers whose dense feed-forward stays: all tokens use it, and each of the two has norms of its own.
    ///
    /// # Errors
    /// As [`Keys::add_experts`].
    pub fn add_experts_beside(
        &self,
        architecture: &mut Architecture,
        default: Router,
    ) -> Result<(), ModelError> {
        self.refuse("expert_shared_count", "no shared experts but the dense feed-forward")?;
        let dense: Vec<usize> = architecture.feed_forward.iter().map(|layer| layer.n_ff).collect();
        self.add_experts(architecture, default, false)?;
        for (layer, n_ff) in architecture.feed_forward.iter_mut().zip(dense) {
            if let FeedForwardKind::Experts(mixture) = &mut layer.kind {
                mixture.shared = Some(Shared { n_ff, has_gate: false });
                mixture.has_branch_norms = true;
            }
        }
        Ok(())
    }

    /// Width of the shared experts together: as it is written, or their count of an expert's width.
    fn shared(&self, n_ff: usize) -> Result<Option<usize>, ModelError> {
        let key = "expert_shared_feed_forward_length";
        if self.usize_of(key)?.unwrap_or(0) > 0 {
            return self.size(key, N_WIDTH, None).map(Some);
        }
        let n_shared = self.size("expert_shared_count", 0..=*N_WIDTH.end() / n_ff, Some(0))?;
        Ok(Some(n_shared * n_ff).filter(|&n| n > 0))
    }

    fn router(&self, default: Router, [n_expert, n_used]: [usize; 2]) -> Result<Router, ModelError> {
        let gating = match self.usize_of("expert_gating_func")? {
            None | Some(0) => default.gating,
            Some(1) => Gating::Softmax,
            Some(2) => Gating::Sigmoid,
            Some(3) => Gating::SoftmaxOfChosen,
            Some(found) => {
                let expected = "1 (softmax), 2 (sigmoid) or 3 (softmax of the chosen)";
                return Err(self.wrong("expert_gating_func", expected, found));
            }
        };
        let is_normalised = self.bool_of("expert_weights_norm")?.unwrap_or(default.is_normalised);
        // 0 is how converters write that there is none.
        let scale = match self.f32("expert_weights_scale", 0.0)? {
            0.0 => default.scale,
            scale if scale > 0.0 => scale,
            scale => return Err(self.wrong("expert_weights_scale", "a number of at least 0", scale)),
        };
        let groups = self.groups([n_expert, n_used])?;
        let router = Router { gating, groups, is_normalised, scale, ..default };
        // The same weights by one sum less; which are chosen does not change, since a softmax keeps the order.
        let is_of_chosen =
            gating == Gating::Softmax && is_normalised && groups.is_none() && !router.has_choice_bias;
        let gating = if is_of_chosen { Gating::SoftmaxOfChosen } else { gating };
        Ok(Router { gating, ..router })
    }

    /// `expert_group_count` and `expert_group_used_count`: one group is none.
    fn groups(&self, [n_expert, n_used]: [usize; 2]) -> Result<Option<Groups>, ModelError> {
        let n_group = self.usize_of("expert_group_count")?.unwrap_or(0);
        if n_group <= 1 {
            return Ok(None);
        }
        if !n_expert.is_multiple_of(n_group) {
            let expected = format!("a divisor of expert_count = {n_expert}");
            return Err(self.wrong("expert_group_count", expected, n_group));
        }
        // Enough groups for the experts that a token uses.
        let least = n_used.div_ceil(n_expert / n_group);
        let n_used = self.size("expert_group_used_count", least..=n_group, None)?;
        Ok(Some(Groups { n_group, n_used }))
    }
}
