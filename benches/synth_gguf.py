#!/usr/bin/env python3
"""Write a GGUF file with the exact tensor shapes and ggml types of a published model, filled with random weights.

Speed does not depend on the weights' values, so such a file times an engine as the real one would.
Usage: synth_gguf.py PRESET OUT [--vocab VOCAB.gguf] [--layers N] [--seed S]
Needs numpy and gguf (PyPI).
"""
import argparse, sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

PRESETS = {
    # name: arch, layers, embd, ff, heads, kv_heads, head_dim, vocab, ctx, rope_base, tied, scheme
    "smollm2-135m":  dict(arch="llama", n_layer=30, n_embd=576,  n_ff=1536,  n_head=9,  n_kv=3,  hd=64,  vocab=49152,  ctx=8192,   base=1e5, tied=True),
    "qwen2.5-0.5b":  dict(arch="qwen2", n_layer=24, n_embd=896,  n_ff=4864,  n_head=14, n_kv=2,  hd=64,  vocab=151936, ctx=32768,  base=1e6, tied=True, qkv_bias=True),
    "llama-3.2-1b":  dict(arch="llama", n_layer=16, n_embd=2048, n_ff=8192,  n_head=32, n_kv=8,  hd=64,  vocab=128256, ctx=131072, base=5e5, tied=True),
    "phi-3-mini":    dict(arch="phi3",  n_layer=32, n_embd=3072, n_ff=8192,  n_head=32, n_kv=32, hd=96,  vocab=32064,  ctx=4096,   base=1e4, tied=False, fused=True, swa=2047),
    "llama-3-8b":    dict(arch="llama", n_layer=32, n_embd=4096, n_ff=14336, n_head=32, n_kv=8,  hd=128, vocab=128256, ctx=8192,   base=5e5, tied=False),
    "qwen2.5-32b":   dict(arch="qwen2", n_layer=64, n_embd=5120, n_ff=27648, n_head=40, n_kv=8,  hd=128, vocab=152064, ctx=32768,  base=1e6, tied=False, qkv_bias=True),
    "gpt-oss-20b":   dict(arch="gpt-oss", n_layer=24, n_embd=2880, n_ff=2880, n_head=64, n_kv=8, hd=64, vocab=201088, ctx=131072, base=150000.0, tied=False, moe=(32, 4), swa=128),
    "qwen3-8b":      dict(arch="qwen3", n_layer=36, n_embd=4096, n_ff=12288, n_head=32, n_kv=8,  hd=128, vocab=151936, ctx=40960,  base=1e6, tied=False, qk_norm=True),
    "qwen3-30b-a3b": dict(arch="qwen3moe", n_layer=48, n_embd=2048, n_ff=6144, n_head=32, n_kv=4, hd=128, vocab=151936, ctx=40960, base=1e6, tied=False, qk_norm=True,
                          moe=(128, 8), n_ff_exp=768),
    # Three of four layers with the gated delta rule, about 9 billion parameters.
    "qwen35-like":   dict(arch="qwen35", n_layer=32, n_embd=4096, n_ff=12288, n_head=16, n_kv=4,  hd=256, vocab=151936, ctx=262144, base=1e7, tied=False, qk_norm=True,
                          rot=64, ssm=dict(conv=4, state=128, n_k=16, n_v=32, interval=4)),
    "gpt2":          dict(arch="gpt2",  n_layer=12, n_embd=768,  n_ff=3072,  n_head=12, n_kv=12, hd=64,  vocab=50257,  ctx=1024,   base=None, tied=True),
}

def more_bits(i, n):
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2

def q4_k_m(name, i, n, ne0, tied):
    name = name.removesuffix("_exps")
    if name == "output" or (name == "token_embd" and tied): t = T.Q6_K
    elif name in ("attn_v", "ffn_down") and more_bits(i, n): t = T.Q6_K
    elif name == "attn_qkv": t = T.Q5_K
    else: t = T.Q4_K
    if ne0 % 256:
        t = {T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0}[t]
    return t

def mxfp4_moe(name, i, n, ne0, tied):
    return T.MXFP4 if name.endswith("_exps") else T.Q8_0

def uniform(t):
    return lambda *a: t

SCHEMES = {"q4_k_m": q4_k_m, "mxfp4": mxfp4_moe, "q8_0": uniform(T.Q8_0), "q4_0": uniform(T.Q4_0), "q4_1": uniform(T.Q4_1),
           "f16": uniform(T.F16), "bf16": uniform(T.BF16), "q6_k": uniform(T.Q6_K), "f32": uniform(T.F32)}
FTYPE = {"q4_k_m": 15, "mxfp4": 38, "q8_0": 7, "q4_0": 2, "q4_1": 3, "f16": 1, "bf16": 32, "q6_k": 18, "f32": 0}

def f16b(x): return np.frombuffer(np.float16(x).tobytes(), np.uint8)

def random_blocks(rng, t, n_elem, std):
    """Raw bytes of n_elem weights of type t, about N(0, std)."""
    if t == T.F32: return rng.standard_normal(n_elem, np.float32) * std
    if t == T.F16: return (rng.standard_normal(n_elem, np.float32) * std).astype(np.float16)
    if t == T.BF16:
        return ((rng.standard_normal(n_elem, np.float32) * np.float32(std)).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    blk, size = gguf.GGML_QUANT_SIZES[t]
    nb = n_elem // blk
    unit = min(nb, 1 << 16)
    b = rng.integers(0, 256, (unit, size), np.uint8)
    if t == T.Q4_0: b[:, 0:2] = f16b(std / 4.6)
    elif t == T.Q4_1: b[:, 0:2] = f16b(std / 4.6); b[:, 2:4] = f16b(-std * 7.5 / 4.6)
    elif t == T.Q5_0: b[:, 0:2] = f16b(std / 9.2)
    elif t == T.Q5_1: b[:, 0:2] = f16b(std / 9.2); b[:, 2:4] = f16b(-std * 15.5 / 9.2)
    elif t == T.Q8_0: b[:, 0:2] = f16b(std / 74)
    elif t in (T.Q4_K, T.Q5_K):
        top = 4.6 if t == T.Q4_K else 9.2
        mid = 7.5 if t == T.Q4_K else 15.5
        b[:, 0:2] = f16b(std / top / 32); b[:, 2:4] = f16b(std * mid / top / 32)
        # 6-bit scales and mins all 32, so that d*sc*q - dmin*m is centred
        sc = np.zeros(12, np.uint8); sc[0:4] = 32; sc[4:8] = 32; sc[8:12] = 0x00
        sc[0:4] |= (2 << 6); sc[4:8] |= (2 << 6)
        b[:, 4:16] = sc
    elif t == T.Q6_K:
        b[:, 192:208] = 32; b[:, 208:210] = f16b(std / 18.5 / 32)
    elif t == T.MXFP4:
        b[:, 0] = max(0, int(round(127 + np.log2(std / 3.0))))
    else: sys.exit(f"no random blocks for {t}")
    reps = -(-nb // unit)
    return np.tile(b, (reps, 1))[:nb].reshape(-1) if reps > 1 else b.reshape(-1)

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("preset", choices=PRESETS); ap.add_argument("out"); ap.add_argument("--scheme", default=None, choices=SCHEMES)
    ap.add_argument("--vocab"); ap.add_argument("--layers", type=int); ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    p = dict(PRESETS[a.preset]); arch = p["arch"]
    if a.layers: p["n_layer"] = a.layers
    scheme = a.scheme or ("mxfp4" if arch == "gpt-oss" else "q4_k_m")
    pick = SCHEMES[scheme]; rng = np.random.default_rng(a.seed)
    w = gguf.GGUFWriter(a.out, arch, use_temp_file=False)
    w.add_name(f"synthetic {a.preset}"); w.add_file_type(FTYPE[scheme]); w.add_quantization_version(2)
    w.add_block_count(p["n_layer"]); w.add_context_length(p["ctx"]); w.add_embedding_length(p["n_embd"])
    w.add_feed_forward_length(p["n_ff"]); w.add_head_count(p["n_head"])
    if arch == "gpt2": w.add_layer_norm_eps(1e-5)
    else:
        w.add_head_count_kv(p["n_kv"]); w.add_layer_norm_rms_eps(1e-5); w.add_rope_freq_base(p["base"])
        w.add_rope_dimension_count(p.get("rot", p["hd"])); w.add_vocab_size(p["vocab"])
    if p.get("qk_norm"):
        w.add_key_length(p["hd"]); w.add_value_length(p["hd"])
    if arch == "qwen3moe":
        w.add_expert_count(p["moe"][0]); w.add_expert_used_count(p["moe"][1]); w.add_expert_feed_forward_length(p["n_ff_exp"])
    if p.get("ssm"):
        s = p["ssm"]
        w.add_uint32(f"{arch}.full_attention_interval", s["interval"]); w.add_ssm_conv_kernel(s["conv"]); w.add_ssm_state_size(s["state"])
        w.add_ssm_group_count(s["n_k"]); w.add_ssm_time_step_rank(s["n_v"]); w.add_ssm_inner_size(s["n_v"] * s["state"])
        w.add_rope_dimension_sections([11, 11, 10, 0])
    if p.get("swa"): w.add_sliding_window(p["swa"])
    if arch == "gpt-oss":
        w.add_key_length(p["hd"]); w.add_value_length(p["hd"]); w.add_expert_count(p["moe"][0]); w.add_expert_used_count(p["moe"][1])
        w.add_expert_feed_forward_length(p["n_ff"]); w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(32.0); w.add_rope_scaling_orig_ctx_len(4096)
    vocab_n = p["vocab"]
    if a.vocab:
        r = gguf.GGUFReader(a.vocab)
        for k, f in r.fields.items():
            if not k.startswith("tokenizer."): continue
            v = f.contents()
            if isinstance(v, list): 
                if k.endswith("tokens"):
                    v = v + [f"[PAD{j}]" for j in range(len(v), vocab_n)]; v = v[:vocab_n]
                if k.endswith("token_type"): v = (v + [5] * vocab_n)[:vocab_n]
                w.add_array(k, v)
            elif isinstance(v, bool): w.add_bool(k, v)
            elif isinstance(v, str): w.add_string(k, v)
            elif isinstance(v, int): w.add_uint32(k, v)
            elif isinstance(v, float): w.add_float32(k, v)
    else:
        w.add_string("tokenizer.ggml.model", "no_vocab")
        if arch == "gpt2": w.add_vocab_size(vocab_n)
    todo = []
    def mat(name, out, inn, i=0, suffix=".weight", experts=None, std=None):
        base = name.split(".")[-1]
        t = pick(base, i, p["n_layer"], inn, p["tied"])
        shape = ([experts] if experts else []) + [out, inn]
        todo.append((name + suffix, shape, t, std or 0.6 / np.sqrt(inn)))
    def vec(name, n, value=None, std=0.02, shape=None):
        todo.append((name, shape or [n], T.F32, (value, std)))
    D, L, H, K, hd, F = p["n_embd"], p["n_layer"], p["n_head"], p["n_kv"], p["hd"], p["n_ff"]
    mat("token_embd", vocab_n, D, std=0.02)
    if arch == "gpt2":
        todo.append(("position_embd.weight", [p["ctx"], D], T.F32, (None, 0.01)))
        vec("output_norm.weight", D, 1.0); vec("output_norm.bias", D)
    else:
        vec("output_norm.weight", D, 1.0)
    if not p["tied"]: mat("output", vocab_n, D)
    for i in range(L):
        b = f"blk.{i}."
        vec(b + "attn_norm.weight", D, 1.0)
        if arch == "gpt2":
            vec(b + "attn_norm.bias", D); mat(b + "attn_qkv", 3 * D, D, i); vec(b + "attn_qkv.bias", 3 * D)
            mat(b + "attn_output", D, D, i); vec(b + "attn_output.bias", D)
            vec(b + "ffn_norm.weight", D, 1.0); vec(b + "ffn_norm.bias", D)
            mat(b + "ffn_up", F, D, i); vec(b + "ffn_up.bias", F); mat(b + "ffn_down", D, F, i); vec(b + "ffn_down.bias", D)
            continue
        s = p.get("ssm")
        if s and (i + 1) % s["interval"]:
            q, z = (2 * s["n_k"] + s["n_v"]) * s["state"], s["n_v"] * s["state"]
            mat(b + "attn_qkv", q, D, i); mat(b + "attn_gate", z, D, i); mat(b + "ssm_alpha", s["n_v"], D, i); mat(b + "ssm_beta", s["n_v"], D, i)
            vec(b + "ssm_conv1d.weight", 0, std=0.3, shape=[q, s["conv"]]); vec(b + "ssm_a", s["n_v"], -1.0); vec(b + "ssm_dt.bias", s["n_v"])
            vec(b + "ssm_norm.weight", s["state"], 1.0); mat(b + "ssm_out", D, z, i)
            vec(b + "post_attention_norm.weight", D, 1.0)
            mat(b + "ffn_gate", F, D, i); mat(b + "ffn_up", F, D, i); mat(b + "ffn_down", D, F, i)
            continue
        if p.get("fused"):
            mat(b + "attn_qkv", (H + 2 * K) * hd, D, i)
        else:
            mat(b + "attn_q", (2 if s else 1) * H * hd, D, i); mat(b + "attn_k", K * hd, D, i); mat(b + "attn_v", K * hd, D, i)
        if p.get("qkv_bias") or arch == "gpt-oss":
            vec(b + "attn_q.bias", H * hd); vec(b + "attn_k.bias", K * hd); vec(b + "attn_v.bias", K * hd)
        mat(b + "attn_output", D, H * hd, i)
        if arch == "gpt-oss":
            E = p["moe"][0]
            vec(b + "attn_output.bias", D); vec(b + "attn_sinks.weight", H, std=1.0); vec(b + "post_attention_norm.weight", D, 1.0)
            todo.append((b + "ffn_gate_inp.weight", [E, D], T.F32, (None, 0.02))); vec(b + "ffn_gate_inp.bias", E)
            for n, o, x in (("gate", F, D), ("up", F, D), ("down", D, F)):
                mat(b + f"ffn_{n}_exps", o, x, i, experts=E); vec(b + f"ffn_{n}_exps.bias", 0, shape=[E, o])
            continue
        if p.get("qk_norm"):
            vec(b + "attn_q_norm.weight", hd, 1.0); vec(b + "attn_k_norm.weight", hd, 1.0)
        vec(b + ("post_attention_norm.weight" if s else "ffn_norm.weight"), D, 1.0)
        if arch == "qwen3moe":
            todo.append((b + "ffn_gate_inp.weight", [p["moe"][0], D], T.F32, (None, 0.02)))
            for n, o, x in (("gate", p["n_ff_exp"], D), ("up", p["n_ff_exp"], D), ("down", D, p["n_ff_exp"])):
                mat(b + f"ffn_{n}_exps", o, x, i, experts=p["moe"][0])
            continue
        if p.get("fused"): mat(b + "ffn_up", 2 * F, D, i)
        else: mat(b + "ffn_gate", F, D, i); mat(b + "ffn_up", F, D, i)
        mat(b + "ffn_down", D, F, i)
    def nbytes(shape, t):
        n = int(np.prod(shape)); blk, size = gguf.GGML_QUANT_SIZES[t]; return n // blk * size
    for name, shape, t, _ in todo:
        blk, size = gguf.GGML_QUANT_SIZES[t]
        if t in (T.F32, T.F16):
            w.add_tensor_info(name, shape, np.dtype(np.float32 if t == T.F32 else np.float16), nbytes(shape, t))
        else:
            w.add_tensor_info(name, shape[:-1] + [shape[-1] // blk * size], np.dtype(np.uint8), nbytes(shape, t), raw_dtype=t)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_ti_data_to_file()
    for name, shape, t, std in todo:
        n = int(np.prod(shape))
        if isinstance(std, tuple):
            value, s = std
            d = np.full(n, value, np.float32) if value is not None else rng.standard_normal(n, np.float32) * np.float32(s)
            if value is not None: d = d + rng.standard_normal(n, np.float32) * np.float32(0.02)
        else:
            d = random_blocks(rng, t, n, std)
        w.write_tensor_data(np.ascontiguousarray(d))
    w.close()

main()
