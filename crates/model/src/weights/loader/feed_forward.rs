//! A layer's feed-forward: dense, or a mixture of experts with its router and the experts that all rows share.

use super::super::{BranchNorms, Experts, Ffn, Gated, NormWeights, SharedExpert};
use super::{Loader, part};
use crate::architecture::{FeedForwardKind, Mixture};
use crate::error::ModelError;

/// The factors of the outputs of experts with norms of their own; of other experts a tensor of this name has the matrices' scales.
pub(super) const FACTORS: &str = "ffn_down_exps.scale";

impl Loader<'_> {
    pub(super) fn ffn(&self, n: usize) -> Result<Ffn, ModelError> {
        let (n_embd, feed_forward) = (self.arch.n_embd, &self.arch.feed_forward[n]);
        let n_ff = feed_forward.n_ff;
        match &feed_forward.kind {
            FeedForwardKind::Gated => self.gated(n, "", n_ff).map(Ffn::Gated),
            FeedForwardKind::Plain => Ok(Ffn::Plain {
                up: self.layer_linear(n, "ffn_up", [n_ff, n_embd])?,
                down: self.layer_linear(n, "ffn_down", [n_embd, n_ff])?,
            }),
            FeedForwardKind::Experts(mixture) => self.mixture(n, mixture, n_ff).map(Ffn::Experts),
        }
    }

    /// A gated feed-forward whose tensors' names end so; gate and up may be one tensor, in this order.
    fn gated(&self, n: usize, end: &str, n_ff: usize) -> Result<Gated, ModelError> {
        let n_embd = self.arch.n_embd;
        let [gate, up, down] = ["gate", "up", "down"].map(|role| format!("ffn_{role}{end}"));
        let found = self.gguf.tensor(&format!("blk.{n}.{up}.weight"));
        let is_fused = found.is_some_and(|found| found.info.shape.get(1) == Some(&(2 * n_ff)));
        let [gate, up] = if is_fused {
            let fused = self.layer_linear(n, &up, [2 * n_ff, n_embd])?;
            [part(&fused, 0..n_ff)?, part(&fused, n_ff..2 * n_ff)?]
        } else {
            [self.layer_linear(n, &gate, [n_ff, n_embd])?, self.layer_linear(n, &up, [n_ff, n_embd])?]
        };
        Ok(Gated { gate, up, down: self.layer_linear(n, &down, [n_embd, n_ff])? })
    }

    fn mixture(&self, n: usize, mixture: &Mixture, n_ff: usize) -> Result<Experts, ModelError> {
        let (n_expert, n_embd) = (mixture.n_expert, self.arch.n_embd);
        let name = |part: &str| format!("blk.{n}.{part}");
        let router = self.layer_linear(n, "ffn_gate_inp", [n_expert, n_embd])?;
        let choice_bias = match mixture.router.has_choice_bias {
            true => Some(self.required(&name("exp_probs_b.bias"), n_expert)?),
            false => None,
        };
        let [gate, up] = if self.gguf.tensor(&name("ffn_gate_up_exps.weight")).is_some() {
            let fused = self.stacked(n, "ffn_gate_up_exps", [n_expert, 2 * n_ff, n_embd])?;
            let half = |rows: std::ops::Range<usize>| {
                fused.iter().map(|expert| part(expert, rows.clone())).collect::<Result<Vec<_>, _>>()
            };
            [half(0..n_ff)?, half(n_ff..2 * n_ff)?]
        } else {
            let experts = |role: &str| self.stacked(n, role, [n_expert, n_ff, n_embd]);
            [experts("ffn_gate_exps")?, experts("ffn_up_exps")?]
        };
        let down = self.stacked(n, "ffn_down_exps", [n_expert, n_embd, n_ff])?;
        let has_factors = self.has_factors && mixture.has_branch_norms;
        let scale = has_factors.then(|| self.required(&name(FACTORS), n_expert)).transpose()?;
        let shared = match mixture.shared {
            Some(shared) => {
                let gate = match shared.has_gate {
                    true => Some(self.layer_linear(n, "ffn_gate_inp_shexp", [1, n_embd])?),
                    false => None,
                };
                // The dense feed-forward's own names, where it stays beside the experts.
                let end = if mixture.has_branch_norms { "" } else { "_shexp" };
                Some(Box::new(SharedExpert { ffn: self.gated(n, end, shared.n_ff)?, gate }))
            }
            None => None,
        };
        let norms = mixture.has_branch_norms.then(|| self.branch_norms(n).map(Box::new)).transpose()?;
        Ok(Experts { router, choice_bias, gate, up, down, scale, shared, norms })
    }

    fn branch_norms(&self, n: usize) -> Result<BranchNorms, ModelError> {
        let norm = |role: &str| self.norm(&format!("blk.{n}.{role}"));
        let router = self.required(&format!("blk.{n}.ffn_gate_inp.scale"), self.arch.n_embd)?;
        Ok(BranchNorms {
            router: NormWeights { weight: router, bias: None },
            experts: norm("pre_ffw_norm_2")?,
            experts_post: norm("post_ffw_norm_2")?,
            shared_post: norm("post_ffw_norm_1")?,
        })
    }
}
