#!/usr/bin/env python3
"""The tables of tensors in gguf-tensor-mapping.md: prints them, after checking each against the golden models.

Usage: pip install gguf && python tensor_mapping.py write | check

FAMILIES says which groups of tensors a family has, and GROUPS the tensors of each with their shapes as products of sizes. Every
tensor of every golden model must be one of its family's, with that shape, and every tensor that is always there must be in each of
the family's models. `write` puts the tables into the page, `check` compares and exits with 1 where they differ.
"""

import pathlib
import re
import sys

import gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/src/reference/gguf-tensor-mapping.md"
BEGIN, END = "<!-- tensors: begin -->\n", "<!-- tensors: end -->\n"

# Presence: always, or what decides. Shapes in the file's order: width of the input first.
GROUPS = {
    "ends": [
        ("token_embd.weight", "E, V", "embedding; the output too where output.weight is missing", "always"),
        ("output.weight", "E, V", "output", "unless tied"),
        ("output_norm.weight", "E", "norm before the output", "always"),
    ],
    "ends lfm2": [
        ("token_embd.weight", "E, V", "embedding and output", "always"),
        ("output.weight", "E, V", "output", "unless tied"),
        ("token_embd_norm.weight", "E", "norm before the output, in spite of its name", "always"),
    ],
    "norms before": [("attn_norm.weight", "E", "norm before attention", "always"), ("ffn_norm.weight", "E", "norm before the feed-forward", "always")],
    "norms before, second name": [
        ("attn_norm.weight", "E", "norm before attention", "always"),
        ("post_attention_norm.weight", "E", "norm before the feed-forward", "always"),
    ],
    "norms after": [
        ("post_attention_norm.weight", "E", "norm of what attention adds", "always"),
        ("post_ffw_norm.weight", "E", "norm of what the feed-forward adds", "always"),
    ],
    "attention": [
        ("attn_q.weight", "E, H*D", "queries", "unless fused"),
        ("attn_k.weight", "E, K*D", "keys", "unless fused"),
        ("attn_v.weight", "E, K*D", "values", "unless fused"),
        ("attn_qkv.weight", "E, (H+2*K)*D", "queries, then keys, then values, in one", "if fused"),
        ("attn_output.weight", "H*D, E", "output of attention", "always"),
    ],
    "attention of gemma4": [
        ("attn_q.weight", "E, H*D", "queries", "always"),
        ("attn_k.weight", "E, K*D", "keys; not read in layers that share", "unless shared"),
        ("attn_v.weight", "E, K*D", "values; without it, in global layers, the keys", "by layer"),
        ("attn_output.weight", "H*D, E", "output of attention", "always"),
        ("attn_q_norm.weight", "D", "norm of each head of queries", "always"),
        ("attn_k_norm.weight", "D", "norm of each head of keys", "by layer"),
    ],
    "gated attention": [
        ("attn_q.weight", "E, 2*H*D", "in each head D of query, then D of gate", "by layer"),
        ("attn_k.weight", "E, K*D", "keys", "by layer"),
        ("attn_v.weight", "E, K*D", "values", "by layer"),
        ("attn_output.weight", "H*D, E", "output of attention", "by layer"),
    ],
    "latent attention": [
        ("attn_q.weight", "E, H*D", "queries: in each head D - R values, then R that are rotated", "without a rank"),
        ("attn_q_a.weight", "E, Rq", "the row that queries are made of", "with a rank"),
        ("attn_q_a_norm.weight", "Rq", "its norm", "with a rank"),
        ("attn_q_b.weight", "Rq, H*D", "queries of it", "with a rank"),
        ("attn_kv_a_mqa.weight", "E, Rk+R", "the row that keys and values are made of, then the rotated key", "always"),
        ("attn_kv_a_norm.weight", "Rk", "norm of the row", "always"),
        ("attn_k_b.weight", "D-R, Rk, H", "from each head's query to the row", "since 2025-04"),
        ("attn_v_b.weight", "Rk, Dv, H", "each head's values of the row", "since 2025-04"),
        ("attn_kv_b.weight", "Rk, H*(D-R+Dv)", "in each head keys of the row, then values", "before"),
        ("attn_output.weight", "H*Dv, E", "output of attention", "always"),
    ],
    "norms of heads, by layer": [
        ("attn_q_norm.weight", "D", "norm of each head of queries", "by layer"),
        ("attn_k_norm.weight", "D", "norm of each head of keys", "by layer"),
    ],
    "attention, by layer": [
        ("attn_q.weight", "E, H*D", "queries", "by layer"),
        ("attn_k.weight", "E, K*D", "keys", "by layer"),
        ("attn_v.weight", "E, K*D", "values", "by layer"),
        ("attn_output.weight", "H*D, E", "output of attention", "by layer"),
    ],
    "norms of heads": [
        ("attn_q_norm.weight", "D", "norm of each head of queries", "always"),
        ("attn_k_norm.weight", "D", "norm of each head of keys", "always"),
    ],
    "norms of rows": [
        ("attn_q_norm.weight", "H*D", "norm of the row of queries", "always"),
        ("attn_k_norm.weight", "K*D", "norm of the row of keys", "always"),
    ],
    "biases of Q, K, V": [
        ("attn_q.bias", "H*D", "", "always"),
        ("attn_k.bias", "K*D", "", "always"),
        ("attn_v.bias", "K*D", "", "always"),
    ],
    "bias and sinks": [("attn_output.bias", "E", "", "always"), ("attn_sinks.weight", "H", "one logit for each query head", "always")],
    "feed-forward": [
        ("ffn_gate.weight", "E, F", "gate", "unless fused"),
        ("ffn_up.weight", "E, F", "up", "unless fused"),
        ("ffn_down.weight", "F, E", "down", "always"),
    ],
    "dense or experts": [
        ("ffn_gate.weight", "E, F", "gate", "unless experts"),
        ("ffn_up.weight", "E, F", "up", "unless experts"),
        ("ffn_down.weight", "F, E", "down", "unless experts"),
    ],
    "fused feed-forward": [
        ("ffn_up.weight", "E, 2*F", "gate, then up, in one", "always"),
        ("ffn_down.weight", "F, E", "down", "always"),
    ],
    "experts": [
        ("ffn_gate_inp.weight", "E, X", "router", "if experts"),
        ("ffn_gate_exps.weight", "E, Fx, X", "gate of each expert", "if experts"),
        ("ffn_up_exps.weight", "E, Fx, X", "up of each expert", "if experts"),
        ("ffn_down_exps.weight", "Fx, E, X", "down of each expert", "if experts"),
    ],
    "gated shared expert": [
        ("ffn_gate_inp_shexp.weight", "E, 1", "gate of the shared expert's output", "always"),
        ("ffn_gate_shexp.weight", "E, Fs", "gate of the shared expert", "always"),
        ("ffn_up_shexp.weight", "E, Fs", "up of the shared expert", "always"),
        ("ffn_down_shexp.weight", "Fs, E", "down of the shared expert", "always"),
    ],
    "experts beside": [
        ("post_ffw_norm_1.weight", "E", "norm of what the dense feed-forward gives", "if experts"),
        ("pre_ffw_norm_2.weight", "E", "norm before the experts", "if experts"),
        ("post_ffw_norm_2.weight", "E", "norm of the experts' sum", "if experts"),
        ("ffn_gate_inp.weight", "E, X", "router", "if experts"),
        ("ffn_gate_inp.scale", "E", "norm before the router", "if experts"),
        ("ffn_gate_up_exps.weight", "E, 2*Fx, X", "gate of each expert, then up", "if experts"),
        ("ffn_down_exps.weight", "Fx, E, X", "down of each expert", "if experts"),
        ("ffn_down_exps.scale", "X", "factor of each expert's output", "if experts"),
    ],
    "biases of experts": [
        ("ffn_gate_inp.bias", "X", "", "always"),
        ("ffn_gate_exps.bias", "Fx, X", "", "always"),
        ("ffn_up_exps.bias", "Fx, X", "", "always"),
        ("ffn_down_exps.bias", "E, X", "", "always"),
    ],
    "experts of glm4moe": [
        ("exp_probs_b.bias", "X", "added to the scores for the choice alone", "by layer"),
        ("ffn_gate_inp.weight", "E, X", "router", "by layer"),
        ("ffn_gate_exps.weight", "E, Fx, X", "gate of each expert", "by layer"),
        ("ffn_up_exps.weight", "E, Fx, X", "up of each expert", "by layer"),
        ("ffn_down_exps.weight", "Fx, E, X", "down of each expert", "by layer"),
        ("ffn_gate_shexp.weight", "E, Fs", "gate of the shared expert", "by layer"),
        ("ffn_up_shexp.weight", "E, Fs", "up of the shared expert", "by layer"),
        ("ffn_down_shexp.weight", "Fs, E", "down of the shared expert", "by layer"),
    ],
    "norms of heads, large models": [
        ("attn_q_norm.weight", "D", "norm of each head of queries", "large models"),
        ("attn_k_norm.weight", "D", "norm of each head of keys", "large models"),
    ],
    "dense layers": [
        ("ffn_gate.weight", "E, F", "gate", "by layer"),
        ("ffn_up.weight", "E, F", "up", "by layer"),
        ("ffn_down.weight", "F, E", "down", "by layer"),
    ],
    "llama3 factors": [("rope_freqs.weight", "R/2", "divides RoPE's frequencies", "Llama 3.1 and later")],
    "gemma4 factors": [("rope_freqs.weight", "R/2", "divides RoPE's frequencies on global layers", "if partial")],
    "longrope factors": [
        ("rope_factors_long.weight", "R/2", "divides RoPE's frequencies in long contexts", "LongRoPE"),
        ("rope_factors_short.weight", "R/2", "the same in short ones", "LongRoPE"),
    ],
    "short convolution": [
        ("shortconv.in_proj.weight", "E, 3*E", "b, then c, then u", "by layer"),
        ("shortconv.conv.weight", "taps, E", "taps of each channel, float32", "by layer"),
        ("shortconv.out_proj.weight", "E, E", "output", "by layer"),
    ],
    "delta rule": [
        ("attn_qkv.weight", "E, (2*Nk+Nv)*S", "queries, keys, values of all heads", "by layer"),
        ("attn_gate.weight", "E, Nv*S", "gate of the output", "by layer"),
        ("ssm_conv1d.weight", "taps, (2*Nk+Nv)*S", "taps of each channel, float32", "by layer"),
        ("ssm_alpha.weight", "E, Nv", "decay", "by layer"),
        ("ssm_beta.weight", "E, Nv", "strength of writing", "by layer"),
        ("ssm_a", "Nv", "factor of the decay, below 0; a name without .weight", "by layer"),
        ("ssm_dt.bias", "Nv", "added to the decay", "by layer"),
        ("ssm_norm.weight", "S", "norm of each head's output", "by layer"),
        ("ssm_out.weight", "Nv*S, E", "output", "by layer"),
    ],
    "scale of a layer": [("layer_output_scale.weight", "1", "factor of the residual stream after the layer", "always")],
    "embeddings by layer": [
        ("per_layer_token_embd.weight", "P*L, V", "a second embedding, P values for each layer", "if P > 0"),
        ("per_layer_model_proj.weight", "E, P*L", "what the first embedding adds to it", "if P > 0"),
        ("per_layer_proj_norm.weight", "P", "norm of that", "if P > 0"),
        ("inp_gate.weight", "E, P", "gate", "if P > 0"),
        ("proj.weight", "P, E", "output", "if P > 0"),
        ("post_norm.weight", "E", "norm of the output", "if P > 0"),
    ],
    "gpt2": [
        ("token_embd.weight", "E, V", "embedding and output", "always"),
        ("output.weight", "E, V", "output", "unless tied"),
        ("position_embd.weight", "E, C", "a vector for each position", "always"),
        ("output_norm.weight", "E", "norm before the output", "always"),
        ("output_norm.bias", "E", "", "always"),
        ("attn_norm.weight", "E", "norm before attention", "always"),
        ("attn_norm.bias", "E", "", "always"),
        ("attn_qkv.weight", "E, (H+2*K)*D", "queries, then keys, then values", "always"),
        ("attn_qkv.bias", "(H+2*K)*D", "", "always"),
        ("attn_output.weight", "H*D, E", "output of attention", "always"),
        ("attn_output.bias", "E", "", "always"),
        ("ffn_norm.weight", "E", "norm before the feed-forward", "always"),
        ("ffn_norm.bias", "E", "", "always"),
        ("ffn_up.weight", "E, F", "up", "always"),
        ("ffn_up.bias", "F", "", "always"),
        ("ffn_down.weight", "F, E", "down", "always"),
        ("ffn_down.bias", "E", "", "always"),
    ],
}

LLAMA = ["ends", "norms before", "attention", "feed-forward"]
FAMILIES = {
    "llama": ["ends", "norms before", "attention", "dense or experts", "experts", "llama3 factors"],
    "mistral3": LLAMA,
    "smollm3": LLAMA,
    "granite": LLAMA,
    "granitemoe": ["ends", "norms before", "attention", "experts"],
    "qwen2": [*LLAMA, "biases of Q, K, V"],
    "qwen3": [*LLAMA, "norms of heads"],
    "qwen3moe": ["ends", "norms before", "attention", "norms of heads", "experts"],
    "qwen35": ["ends", "norms before, second name", "gated attention", "norms of heads, by layer", "delta rule", "feed-forward"],
    "qwen35moe": [
        "ends", "norms before, second name", "gated attention", "norms of heads, by layer", "delta rule", "experts", "gated shared expert",
    ],
    "lfm2": ["ends lfm2", "norms before", "attention, by layer", "norms of heads, by layer", "short convolution", "feed-forward"],
    "phi3": ["ends", "norms before", "attention", "fused feed-forward", "longrope factors"],
    "gemma2": [*LLAMA, "norms after"],
    "gemma3": [*LLAMA, "norms after", "norms of heads"],
    "gemma4": ["ends", "norms before", "norms after", "attention of gemma4", "feed-forward", "experts beside", "scale of a layer", "gemma4 factors", "embeddings by layer"],
    "olmo2": ["ends", "norms after", "attention", "norms of rows", "feed-forward"],
    "gpt-oss": ["ends", "norms before, second name", "attention", "biases of Q, K, V", "bias and sinks", "experts", "biases of experts"],
    "glm4moe": [
        "ends", "norms before, second name", "attention", "biases of Q, K, V", "norms of heads, large models", "dense layers", "experts of glm4moe",
    ],
    "deepseek2": ["ends", "norms before", "latent attention", "dense layers", "experts of glm4moe"],
    "gpt2": ["gpt2"],
}
# The rest of a name after `blk.N.`, or the whole name.
IN_LAYER = re.compile(r"blk\.(\d+)\.(.*)")
OF_MODEL = ("token_embd", "output.", "output_norm", "position_embd", "rope_", "per_layer_")


class File:
    """A golden model's keys as the sizes in the formulas."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.family = self.reader.fields["general.architecture"].contents()

    def key(self, name, default=None):
        field = self.reader.fields.get(f"{self.family}.{name}")
        return default if field is None else field.contents()

    def sizes(self, layer):
        e, h = self.key("embedding_length"), self.key("attention.head_count")
        k, d = self.key("attention.head_count_kv", h), self.key("attention.key_length", e // h)
        d = self.key("attention.key_length_mla", d)
        r = self.key("rope.dimension_count", d)
        local = self.key("attention.sliding_window_pattern")
        if local and layer is not None and local[layer]:
            d = self.key("attention.key_length_swa", d)
        if isinstance(k, list):
            k = max(k) if layer is None else k[layer]
        f = self.key("feed_forward_length")
        if isinstance(f, list):
            f = max(f) if layer is None else f[layer]
        fx = self.key("expert_feed_forward_length", f)
        vocabulary = next(int(tensor.shape[1]) for tensor in self.reader.tensors if tensor.name == "token_embd.weight")
        return {
            "E": e, "H": h, "K": k, "D": d, "F": f, "Fx": fx, "Fs": self.key("expert_shared_feed_forward_length") or fx * self.key("expert_shared_count", 1), "X": self.key("expert_count"), "R": r,
            "V": vocabulary, "C": self.key("context_length"), "L": self.key("block_count"), "P": self.key("embedding_length_per_layer_input", 0),
            "S": self.key("ssm.state_size"), "Nk": self.key("ssm.group_count"), "Nv": self.key("ssm.time_step_rank"),
            "Rq": self.key("attention.q_lora_rank"), "Rk": self.key("attention.kv_lora_rank"),
            "Dv": self.key("attention.value_length_mla", self.key("attention.value_length", d)),
            "taps": self.key("shortconv.l_cache", self.key("ssm.conv_kernel")),
        }


def rows(family):
    return [row for group in FAMILIES[family] for row in GROUPS[group]]


def check_file(path):
    """What of a golden model the tables do not say, or say otherwise."""
    file = File(path)
    # A name may stand twice, where layers differ.
    known, found = {}, set()
    for name, shape, _, _ in rows(file.family):
        known.setdefault(name, []).append(shape)
    for tensor in file.reader.tensors:
        match = IN_LAYER.fullmatch(tensor.name)
        layer, name = (int(match[1]), match[2]) if match else (None, tensor.name)
        found.add((layer, name))
        sizes = file.sizes(layer)
        shapes = [[int(eval(part.replace("/", "//"), {}, sizes)) for part in shape.split(", ")] for shape in known.get(name, [])]
        if [int(n) for n in tensor.shape] not in shapes:
            yield f"{path.name}: {tensor.name} has the shape {tensor.shape}, the table {shapes}"
    for name, _, _, presence in rows(file.family):
        layers = [None] if name.startswith(OF_MODEL) else range(file.key("block_count"))
        for layer in layers:
            if presence == "always" and (layer, name) not in found:
                yield f"{path.name}: no {name} in layer {layer}"


def tables():
    parts = []
    for family in FAMILIES:
        parts.append(f"### `{family}`\n\n| tensor | shape | what | there |\n|---|---|---|---|\n")
        for name, shape, what, presence in rows(family):
            full = name if name.startswith(OF_MODEL) else f"blk.N.{name}"
            parts.append(f"| `{full}` | {shape.replace('*', ' · ')} | {what or 'bias'} | {presence} |\n")
        parts.append("\n")
    return "".join(parts)


def main():
    paths = sorted((ROOT / "tests/golden").glob("*.gguf"))
    wrong = [line for path in paths for line in check_file(path)]
    if wrong:
        sys.exit("\n".join(wrong))
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{tables()}{END}{after}"
    if sys.argv[1:] == ["write"]:
        PAGE.write_text(wanted, encoding="utf-8")
    elif sys.argv[1:] != ["check"]:
        sys.exit(__doc__)
    elif wanted != text:
        sys.exit(f"{PAGE.name}: the tables are not those of this script; run `tensor_mapping.py write`")
    print(f"{len(paths)} golden models are as the tables say")


if __name__ == "__main__":
    main()
