#!/usr/bin/env python3
"""Measures what each block format loses: python quant_error.py LIBGGML_BASE [ROWS] (needs `numpy` and `gguf`).

LIBGGML_BASE is ggml's shared library (libggml-base.so), whose own quantiser is used, because gguf-py has none for most formats. Decoding
is gguf-py's, with which this project's decoders agree bit by bit. Values are ROWS rows of 4096, standard normal (seed 1), and then Student's
t with 4 degrees of freedom, which has outliers as trained weights do. The importance of every value is the same. Prints bits a weight, the
squared error over the squared values in dB for both, and for the normal values the distance to Shannon's bound of 6.02 dB a bit.
"""

import ctypes
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

ROW = 4096
NAMES = """F16 BF16 Q8_0 Q6_K Q5_1 Q5_K Q5_0 Q4_1 Q4_K IQ4_NL Q4_0 NVFP4 MXFP4 IQ4_XS Q3_K IQ3_S IQ3_XXS Q2_K IQ2_S IQ2_XS IQ2_XXS TQ2_0 IQ1_M
TQ1_0 IQ1_S""".split()

lib = ctypes.CDLL(sys.argv[1])
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 256
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
lib.ggml_version.restype = lib.ggml_commit.restype = ctypes.c_char_p
random = np.random.default_rng(1)
samples = [random.standard_normal((rows, ROW), dtype=np.float32), random.standard_t(4, (rows, ROW)).astype(np.float32)]
importance = np.ones(ROW, dtype=np.float32)


def ratio(kind, values):
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    out = np.zeros((rows, ROW // block_len * block_bytes), dtype=np.uint8)
    lib.ggml_quantize_init(kind.value)
    lib.ggml_quantize_chunk(kind.value, values.ctypes.data, out.ctypes.data, 0, rows, ROW, importance.ctypes.data)
    back = out.view(np.float16).astype(np.float32) if kind == Type.F16 else dequantize(out, kind)
    exact = values.astype(np.float64)
    return 10 * np.log10((exact**2).sum() / ((back - exact) ** 2).sum())


print(f"ggml {lib.ggml_version().decode()} {lib.ggml_commit().decode()}, {rows * ROW} values")
for name in NAMES:
    kind = Type[name]
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    bits = 8 * block_bytes / block_len
    normal, tailed = (ratio(kind, values) for values in samples)
    print(f"{name:8} {bits:7.4f} bits  {normal:6.2f} dB  {tailed:6.2f} dB  {20 * np.log10(2) * bits - normal:6.2f} dB to the bound")
