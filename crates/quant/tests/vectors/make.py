#!/usr/bin/env python3
"""Writes the test vectors of this folder: blocks and what gguf-py decodes them to.

Usage: pip install numpy gguf && python make.py

NAME.bin holds N blocks, then their N * block_len values as little-endian float32. First come the edges: all bits clear, all
set, and random bytes under scales that are zero, negative zero, subnormal, the largest finite, infinite and not a number;
then random bytes under scales of a usual size.
"""

import pathlib

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Byte offsets of the 16-bit scales in a block; None where a block is one number.
SCALES = {
    Type.F16: None, Type.BF16: None, Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
    Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [],
}
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
E8M0_EDGES = [0, 1, 2, 3, 126, 127, 128, 253, 254, 255]


def blocks_of(kind, rng):
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    if SCALES[kind] is None:
        edges = np.array(EDGES + [0x7C01, 0xFFFF, 0x7F80, 0xFF80, 0x7F81, 0x007F], dtype=np.uint16)
        return np.concatenate([edges, rng.integers(0, 1 << 16, 497, dtype=np.uint16)]).view(np.uint8).reshape(-1, 2)
    edges = E8M0_EDGES if kind == Type.MXFP4 else EDGES
    usual = 2 * (len(edges) + 2) if block_len == 32 else len(edges) // 2
    blocks = rng.integers(0, 256, (2 + len(edges) + usual, block_bytes), dtype=np.uint8)
    blocks[0], blocks[1] = 0x00, 0xFF
    for i, block in enumerate(blocks[2:]):
        if kind == Type.MXFP4:
            block[0] = edges[i] if i < len(edges) else rng.integers(110, 135)
        for at in SCALES[kind]:
            usual_scale = np.float16(rng.uniform(-0.1, 0.1)).view(np.uint16)
            block[at:at + 2] = np.array([edges[i] if i < len(edges) else usual_scale], dtype="<u2").view(np.uint8)
    return blocks


for kind in SCALES:
    blocks = blocks_of(kind, np.random.default_rng(kind.value))
    with np.errstate(all="ignore"):
        values = dequantize(blocks, kind).astype("<f4")
    path = pathlib.Path(__file__).with_name(f"{kind.name.lower()}.bin")
    path.write_bytes(blocks.tobytes() + values.tobytes())
