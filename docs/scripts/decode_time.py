#!/usr/bin/env python3
"""Times ggml's reference decoders: python decode_time.py LIBGGML_BASE (needs `numpy` and `gguf`).

One thread, 4,194,304 weights that are in memory, the best of 9 runs: nanoseconds a weight, and that over F16's. What is timed is ggml's
portable code, one weight after the other: it ranks how much work a format's layout is, and is not the speed of any matrix kernel.
"""

import ctypes
import sys
import time

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

NAMES = """F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL MXFP4 NVFP4 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S
TQ1_0 TQ2_0""".split()
DECODER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Traits(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("block_len", ctypes.c_int64), ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("decode", ctypes.c_void_p), ("encode", ctypes.c_void_p),
    ]


lib = ctypes.CDLL(sys.argv[1])
lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
count = 1 << 22
out = np.zeros(count, dtype=np.float32)
times = {}
for name in NAMES:
    kind = Type[name]
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    traits = lib.ggml_get_type_traits(kind.value).contents
    assert (traits.block_len, traits.block_bytes) == (block_len, block_bytes), name
    blocks = np.random.default_rng(1).integers(0, 120, count // block_len * block_bytes, dtype=np.uint8)
    decode, best = DECODER(traits.decode), 1e9
    for _ in range(9):
        start = time.perf_counter()
        decode(blocks.ctypes.data, out.ctypes.data, count)
        best = min(best, time.perf_counter() - start)
    times[name] = best / count * 1e9
for name, value in times.items():
    print(f"{name:8} {value:6.3f} ns  {value / times['F16']:5.2f}")
