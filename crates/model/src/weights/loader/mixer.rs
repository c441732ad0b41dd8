//! Finds the tensors of a layer's mixer.

use std::ops::Range;

use super::{Loader, part};
use crate::architecture::{Conv, DeltaRule, Heads, KvSource, Latent, Mixer, QkNorm};
use crate::error::ModelError;
use crate::weights::{
    AttentionWeights, DeltaRuleWeights, KeyMaps, LatentWeights, Linear, MixerWeights, NormWeights, QueryRow,
    ShortConvWeights,
};

impl Loader<'_> {
    pub(super) fn mixer(&self, n: usize) -> Result<MixerWeights, ModelError> {
        Ok(match self.arch.mixers[n] {
            Mixer::Attention(heads) => MixerWeights::Attention(self.attention(n, heads)?),
            Mixer::Latent(latent) => MixerWeights::Latent(self.latent(n, latent)?),
            Mixer::ShortConv(conv) => MixerWeights::ShortConv(self.short_conv(n, conv)?),
            Mixer::DeltaRule(rule) => MixerWeights::DeltaRule(self.delta_rule(n, rule)?),
        })
    }

    fn attention(&self, n: usize, heads: Heads) -> Result<AttentionWeights, ModelError> {
        let (n_embd, attn) = (self.arch.n_embd, &self.arch.attention);
        let name = |part: &str| format!("blk.{n}.{part}");
        let (n_q, n_kv, n_q_row) = (heads.n_q(), heads.n_kv(), attn.n_q_row(heads));
        let (has_k, has_v) = (heads.keeps(), heads.source == KvSource::Projections);
        let (q, k, v) = if has_v && self.gguf.tensor(&name("attn_qkv.weight")).is_some() {
            let fused = self.layer_linear(n, "attn_qkv", [n_q_row + 2 * n_kv, n_embd])?;
            let (of_k, of_v) = (n_q_row..n_q_row + n_kv, n_q_row + n_kv..n_q_row + 2 * n_kv);
            (part(&fused, 0..n_q_row)?, Some(part(&fused, of_k)?), Some(part(&fused, of_v)?))
        } else {
            let linear = |role: &str, n_row: usize| self.layer_linear(n, role, [n_row, n_embd]);
            (
                linear("attn_q", n_q_row)?,
                has_k.then(|| linear("attn_k", n_kv)).transpose()?,
                has_v.then(|| linear("attn_v", n_kv)).transpose()?,
            )
        };
        let sinks = match attn.sinks {
            true => Some(self.required(&name("attn_sinks.weight"), heads.n_head)?),
            false => None,
        };
        let lengths = attn.qk_norm.map(|kind| match kind {
            QkNorm::Head => [heads.head_dim; 2],
            QkNorm::Row => [n_q, n_kv],
        });
        let norm = |role: &str, length: Option<usize>| {
            length.map(|length| self.required(&name(role), length)).transpose()
        };
        Ok(AttentionWeights {
            q,
            k,
            v,
            sinks,
            q_norm: norm("attn_q_norm.weight", lengths.map(|lengths| lengths[0]))?,
            k_norm: norm("attn_k_norm.weight", lengths.map(|lengths| lengths[1]).filter(|_| has_k))?,
            output: self.layer_linear(n, "attn_output", [n_embd, n_q])?,
        })
    }

    fn latent(&self, n: usize, latent: Latent) -> Result<LatentWeights, ModelError> {
        let Latent { n_head, kv_rank, n_rot, n_value, .. } = latent;
        let n_embd = self.arch.n_embd;
        let norm = |role: &str, len: usize| {
            let weight = self.required(&format!("blk.{n}.{role}.weight"), len)?;
            Ok::<_, ModelError>(NormWeights { weight, bias: None })
        };
        let n_q = n_head * latent.head_dim();
        let (q_row, q) = match latent.q_rank {
            Some(rank) => {
                let map = self.layer_linear(n, "attn_q_a", [rank, n_embd])?;
                let row = QueryRow { map, norm: norm("attn_q_a_norm", rank)? };
                (Some(row), self.layer_linear(n, "attn_q_b", [n_q, rank])?)
            }
            None => (None, self.layer_linear(n, "attn_q", [n_q, n_embd])?),
        };
        let (k, v) = self.latent_maps(n, latent)?;
        Ok(LatentWeights {
            q_row,
            q,
            kv: self.layer_linear(n, "attn_kv_a_mqa", [kv_rank + n_rot, n_embd])?,
            kv_norm: norm("attn_kv_a_norm", kv_rank)?,
            k,
            v,
            output: self.layer_linear(n, "attn_output", [n_embd, n_head * n_value])?,
        })
    }

    /// What makes keys and values of the row that is kept: a tensor each, or one in which a head's rows of keys precede those of its values.
    fn latent_maps(&self, n: usize, latent: Latent) -> Result<(KeyMaps, Vec<Linear>), ModelError> {
        let Latent { n_head, kv_rank, n_plain, n_value, .. } = latent;
        let name = format!("blk.{n}.attn_kv_b");
        let tensor = format!("{name}.weight");
        if self.gguf.tensor(&tensor).is_none() {
            let k = self.stacked(n, "attn_k_b", [n_head, kv_rank, n_plain])?;
            return Ok((KeyMaps::OfQueries(k), self.stacked(n, "attn_v_b", [n_head, n_value, kv_rank])?));
        }
        let n_row = n_plain + n_value;
        let weight = self.weight(&name, [n_head * n_row, kv_rank])?;
        self.charge_parts(&tensor, 2 * n_head)?;
        let both = Linear { weight, bias: None };
        let of_heads = |rows: Range<usize>| {
            let rows = |head: usize| head * n_row + rows.start..head * n_row + rows.end;
            (0..n_head).map(|head| part(&both, rows(head))).collect::<Result<Vec<_>, _>>()
        };
        Ok((KeyMaps::OfKeys(of_heads(0..n_plain)?), of_heads(n_plain..n_row)?))
    }

    fn short_conv(&self, n: usize, conv: Conv) -> Result<ShortConvWeights, ModelError> {
        let n_embd = self.arch.n_embd;
        Ok(ShortConvWeights {
            input: self.layer_linear(n, "shortconv.in_proj", [3 * n_embd, n_embd])?,
            taps: self.taps(&format!("blk.{n}.shortconv.conv.weight"), conv)?,
            output: self.layer_linear(n, "shortconv.out_proj", [n_embd, n_embd])?,
        })
    }

    fn delta_rule(&self, n: usize, rule: DeltaRule) -> Result<DeltaRuleWeights, ModelError> {
        let n_embd = self.arch.n_embd;
        let (n_v, n_v_head) = (rule.n_v(), rule.n_v_head);
        let name = |part: &str| format!("blk.{n}.{part}");
        Ok(DeltaRuleWeights {
            qkv: self.layer_linear(n, "attn_qkv", [2 * rule.n_k() + n_v, n_embd])?,
            gate: self.layer_linear(n, "attn_gate", [n_v, n_embd])?,
            alpha: self.layer_linear(n, "ssm_alpha", [n_v_head, n_embd])?,
            beta: self.layer_linear(n, "ssm_beta", [n_v_head, n_embd])?,
            taps: self.taps(&name("ssm_conv1d.weight"), rule.conv())?,
            a: self.required(&name("ssm_a"), n_v_head)?,
            dt: self.required(&name("ssm_dt.bias"), n_v_head)?,
            norm: self.required(&name("ssm_norm.weight"), rule.head_dim)?,
            output: self.layer_linear(n, "ssm_out", [n_embd, n_v])?,
        })
    }

    /// A convolution's taps, `[n_channel, n_tap]`.
    fn taps(&self, name: &str, conv: Conv) -> Result<Vec<f32>, ModelError> {
        self.table(name, [conv.n_channel, conv.n_tap])
    }
}
