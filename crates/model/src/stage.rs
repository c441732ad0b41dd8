//! The stages that every model runs: the contract between a model's data and an executor's arithmetic.
//!
//! A stage is the work between two points where every part of a device must agree. One step runs [`Stage::Embed`], then for each
//! layer `Qkv`, `Attend`, `AttnOut` (its mixer, whichever that is), `FfnIn`, `FfnOut`, then `Head`. The `cpu` crate's exact executor is this text as code; any
//! other executor agrees with it within a stated bound, stage by stage. Vectors are float32; `[a, b]` is row-major, b innermost.
//! `x` is the residual stream, `[n_row, n_embd]`; `p` a row's position in its sequence. A product with a matrix that has a scale of its own, such
//! as `Wq n`, is the product of its weights times that scale.

/// One of the stages, named by what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `x[r] = scales.embedding * token_embd[token[r]]`, plus `position_embd[p]` where positions are learned. Leaves `x`.
    ///
    /// Where layers have inputs of the token itself, `n_per_layer` values each, that of layer `l` is `(sqrt(n_per_layer) * t + m) / sqrt(2)`, with `t` its part
    /// of `per_layer_token_embd[token[r]]` and `m` the `rms_norm` of its part of `Wm x / sqrt(n_embd)`.
    Embed,
    /// `n = norm(x)`, or `x` where no norm stands before attention; `q = Wq n + bq`, `k = Wk n + bk`, `v = Wv n + bv`; where the
    /// architecture has a norm of queries and keys, `q` and `k` become `rms_norm` of each head or of the whole row, and with one of values each head of `v` is divided by its root mean square.
    /// Without a projection of values `v` is `k` before its norm; a layer that reads an earlier one's keys and values has neither. RoPE turns the first
    /// `n_rot` values of each head of `q` and `k` by the angle `p * frequency`, in the layers that have it; `q` is multiplied by the
    /// temperature at `p`. `k` and `v` go to the cache at `p`, rounded as [`crate::kv`] says. Leaves `q`, `[n_row, n_head * head_dim]`.
    ///
    /// Latent attention: `q` of a head is `[plain, rotated]`, made of `rms_norm(Wa n)` in place of `n` where queries have a rank; `[c, r] = Wkv n`. The
    /// row that is kept is `[rope(r), rms_norm(c)]`; the query is brought to it, `q[h] = [rope(rotated[h]), Wk[h]^T plain[h]]`, where `Wk[h]` makes
    /// the head's keys of `c`. Leaves `q`, `[n_row, n_head * (n_rot + kv_rank)]`.
    ///
    /// In a layer with a short convolution: `[b, c, u] = Wi n`, leaves `b * u`, `[n_row, n_embd]`. With a delta rule: `silu(conv(Wqkv n))`, the
    /// queries, keys and values of all heads, `[n_row, 2 * n_k + n_v]`.
    ///
    /// Sources: RMS norm, arXiv 1910.07467; layer norm, arXiv 1607.06450; norms of queries and keys, arXiv 2302.05442; RoPE, arXiv 2104.09864.
    Qkv,
    /// For query head `h`, key head `h / (n_head / n_kv_head)`, over positions `j` with `p - window < j <= p`:
    /// `s[j] = scale * q . k[j]`, or `cap * tanh` of a `cap`th of that; `a = sum_j exp(s[j]) v[j] / (sum_j exp(s[j]) + exp(sink[h]))`, the last term only with sinks.
    /// Where attention is gated, `a` is multiplied by the sigmoid of the gate. Leaves `a`, `[n_row, n_head * head_dim]`.
    ///
    /// Latent attention: the kept row is the key, and its part `c` the value, of all heads; `a[h] = Wv[h] sum_j p[j] c[j]`. Leaves `a`,
    /// `[n_row, n_head * n_value]`.
    ///
    /// Short convolution: leaves `a = c * conv(b * u)`, `[n_row, n_embd]`. Delta rule, for each value head, in float32, over the sequence's
    /// tokens in order, with `M` (`[head_dim of keys, head_dim of values]`) zero at its start: `q` and `k` become `x / sqrt(sum(x^2) + eps)` and `q`
    /// is divided by `sqrt(head_dim)`; `M *= exp(a * softplus(Walpha n + dt))`; `d = (v - k^T M) * sigmoid(Wbeta n)`; `M += k d^T`; `o = q^T M`. Leaves
    /// `rms_norm(o) * silu(Wgate n)`, `[n_row, n_v]`. Each sum runs in the order of its index.
    ///
    /// Sources: grouped queries, arXiv 2305.13245; latent attention in this form, arXiv 2405.04434, section 2.1 and appendix C; sinks, arXiv 2309.17453 and gpt-oss; gated delta rule, arXiv 2412.06464; gated attention,
    /// arXiv 2505.06708.
    Attend,
    /// `x += scales.residual * (Wo a + bo)`, the sum in brackets normalised where a norm stands after attention. Leaves `x`.
    AttnOut,
    /// `n = norm(x)`, or `x` where no norm stands before the feed-forward. Gated: `h = act(Wg n + bg, Wu n + bu)`. Plain: `h = act(Wu n + bu)`.
    ///
    /// Experts: logits `l = Wr n + br`, where what is not a number counts as minus infinity; scores `s = softmax(l)`, `sigmoid(l)` or `l`, as
    /// the router's gating says; ranks `t = s`, plus the bias of the choice where there is one. Where experts are in groups, the ranks of all but
    /// the best groups become minus infinity; a group's own rank is its largest, or the sum of its two largest where scores are sigmoids. The
    /// `n_used` experts of the largest ranks are chosen, best first; among equals, experts or groups, the lowest index wins. Their weights `w` are
    /// `s`, divided by the sum over the chosen where the router normalises, or `softmax(l)` over the chosen; times the router's scale, and times
    /// the factor of the expert's output where the file has one. `h` of each chosen expert is as in the gated kind, and so is that of the shared
    /// experts, `h'`.
    ///
    /// Where the experts and what all rows use are branches with norms of their own, the experts read a second norm of `x`, and the router's
    /// logits are `Wr rms_norm(x) / sqrt(n_embd)`, this norm with a weight of the router's.
    ///
    /// Leaves `h`, `[n_row, n_ff]`; with experts `[n_row, n_used, n_ff]`, and then `h'`, `[n_row, shared.n_ff]`.
    ///
    /// Sources: gated units, arXiv 2002.05202; mixtures of experts, arXiv 2401.04088; shared experts, arXiv 2401.06066; groups, arXiv 2405.04434
    /// and 2412.19437; the bias of the choice, arXiv 2408.15664.
    FfnIn,
    /// `x += scales.residual * y` with `y = Wd h + bd`, or with experts `y = sum_e w[e] (Wd[e] h[e] + bd[e])`, experts in the order of
    /// their ranks, plus `Wd' h' + bd'` of the shared ones, times `sigmoid(w' . n)` where they have a gate; each of these two sums
    /// is normalised first where branches have norms of their own. `y` is normalised where a norm
    /// stands after the feed-forward. Then, with the layer's input `i` of the token itself, `x += norm(Wp act(Wi x, i))`; and `x *= scale` where
    /// layers have a factor. Leaves `x`.
    FfnOut,
    /// `logits = scales.logits * W_out norm(x)`, bounded by the cap where there is one, for the rows that are asked for, `[rows, n_vocab]`, and sampling (the `device` crate's).
    Head,
}

impl Stage {
    /// For tables: `embed`, `qkv`, `attend`, `attn_out`, `ffn_in`, `ffn_out` or `head`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Embed => "embed",
            Stage::Qkv => "qkv",
            Stage::Attend => "attend",
            Stage::AttnOut => "attn_out",
            Stage::FfnIn => "ffn_in",
            Stage::FfnOut => "ffn_out",
            Stage::Head => "head",
        }
    }
}
