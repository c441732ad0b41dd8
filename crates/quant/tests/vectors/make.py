#!/usr/bin/env python3
"""Writes the test vectors of this folder: blocks and what gguf-py decodes them to.

Usage: pip install numpy gguf && python make.py

NAME.bin holds N blocks, then their N * block_len values as little-endian float32. First come the edges: all bits clear, all
set, and random bytes under scales that are zero, negative zero, subnormal, the largest finite, infinite and not a number;
then random bytes under scales of a usual size. Formats with a grid have enough blocks for every one of its points.
"""

import pathlib

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Byte offsets of the 16-bit scales in a block; None where a block is one number.
SCALES = {
    Type.F16: None, Type.BF16: None, Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
    Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [], Type.IQ1_S: [0], Type.IQ1_M: [], Type.IQ2_XXS: [0],
    Type.IQ2_XS: [0], Type.IQ2_S: [0], Type.IQ3_XXS: [0], Type.IQ3_S: [0], Type.TQ1_0: [52], Type.TQ2_0: [64], Type.NVFP4: [],
    Type.Q1_0: [0], Type.Q2_0: [0],
}
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
E8M0_EDGES = [0, 1, 2, 3, 126, 127, 128, 253, 254, 255]

# Points of the grids, and of a block.
POINTS = {
    Type.IQ1_S: (2048, 32), Type.IQ1_M: (2048, 32), Type.IQ2_XXS: (256, 32), Type.IQ2_XS: (512, 32), Type.IQ2_S: (1024, 32),
    Type.IQ3_XXS: (256, 64), Type.IQ3_S: (512, 64),
}


def set_scales(kind, block, scale):
    """Puts scales of 16 bits, which `scale()` gives, where the format has them."""
    for at in SCALES[kind]:
        block[at:at + 2] = np.array([scale()], dtype="<u2").view(np.uint8)
    if kind == Type.IQ1_M:
        bits = scale()
        for i in range(4):
            block[49 + 2 * i] = block[49 + 2 * i] & 0x0F | (bits >> 4 * i & 15) << 4


def set_points(kind, block, first):
    """Puts the indices of a block's points: `first` and those that follow it."""
    n = POINTS[kind][1]
    points = np.arange(first, first + n)
    low, high = (points & 255).astype(np.uint8), points >> 8
    if kind == Type.IQ2_XXS:
        block[2:66].reshape(8, 8)[:, :4] = low.reshape(8, 4)
    elif kind == Type.IQ2_XS:
        block[2:66].reshape(32, 2)[:, 0] = low
        block[2:66].reshape(32, 2)[:, 1] = block[2:66].reshape(32, 2)[:, 1] & 0xFE | high
    elif kind == Type.IQ1_M:
        block[:32] = low
        block[32:48] = block[32:48] & 0x88 | high[::2] | high[1::2] << 4
    else:
        block[2:2 + n] = low
    if kind == Type.IQ2_S:
        block[66:74] = (high.reshape(8, 4) << [0, 2, 4, 6]).sum(axis=1)
    elif kind == Type.IQ3_S:
        block[66:74] = (high.reshape(8, 8) << np.arange(8)).sum(axis=1)
    elif kind == Type.IQ1_S:
        qh = block[34:50].view("<u2")
        qh[:] = qh & 0xF000 | (high.reshape(8, 4) << [0, 3, 6, 9]).sum(axis=1)


def decode(blocks, kind):
    """gguf-py's decoder; of two formats it knows the sizes alone, so theirs are those of ggml, written again."""
    if kind not in (Type.Q1_0, Type.Q2_0):
        return dequantize(blocks, kind)
    n_bit, least = (1, -1) if kind == Type.Q1_0 else (2, -1)
    shifts = np.arange(0, 8, n_bit, dtype=np.uint8)
    q = (blocks[:, 2:, None] >> shifts & (1 << n_bit) - 1).reshape(len(blocks), -1).astype(np.float32)
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return ((2 * q if kind == Type.Q1_0 else q) + least) * d


def blocks_of(kind, rng):
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    if SCALES[kind] is None:
        edges = np.array(EDGES + [0x7C01, 0xFFFF, 0x7F80, 0xFF80, 0x7F81, 0x007F], dtype=np.uint16)
        return np.concatenate([edges, rng.integers(0, 1 << 16, 497, dtype=np.uint16)]).view(np.uint8).reshape(-1, 2)
    if kind == Type.NVFP4:
        blocks = rng.integers(0, 256, (64, block_bytes), dtype=np.uint8)
        # Every scale that there is.
        blocks[:, :4] = np.arange(256).reshape(64, 4)
        return blocks
    edges = E8M0_EDGES if kind == Type.MXFP4 else EDGES
    usual = 2 * (len(edges) + 2) if block_len == 32 else len(edges) // 2
    n_point, of_block = POINTS.get(kind, (0, 1))
    usual = max(usual, n_point // of_block)
    blocks = rng.integers(0, 256, (2 + len(edges) + usual, block_bytes), dtype=np.uint8)
    blocks[0], blocks[1] = 0x00, 0xFF
    for i, block in enumerate(blocks[2:]):
        if kind == Type.MXFP4:
            block[0] = edges[i] if i < len(edges) else rng.integers(110, 135)

        def scale():
            usual = int(np.float16(rng.uniform(-0.1, 0.1)).view(np.uint16))
            return edges[i] if i < len(edges) else usual

        set_scales(kind, block, scale)
        first = (i - len(edges)) * of_block
        if 0 <= first < n_point:
            set_points(kind, block, first)
    return blocks


for kind in SCALES:
    blocks = blocks_of(kind, np.random.default_rng(kind.value))
    with np.errstate(all="ignore"):
        values = decode(blocks, kind).astype("<f4")
    path = pathlib.Path(__file__).with_name(f"{kind.name.lower()}.bin")
    path.write_bytes(blocks.tobytes() + values.tobytes())
