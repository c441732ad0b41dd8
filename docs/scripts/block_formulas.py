#!/usr/bin/env python3
"""The formulas of the reference page on the format, as code: one function a format gives weight i of a block b (its bytes).

Run, it compares each with gguf-py on random blocks and says how many weights were equal: python block_formulas.py [BLOCKS] (needs `gguf`).
Scales are sensible halves, since a random one is often an infinity. Every weight must be the same number.
"""

import struct
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf import quants

f32 = np.float32
LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
E2M1_DOUBLED = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]


def half(b, at):
    return f32(struct.unpack_from("<e", bytes(b), at)[0])


def u16(b, at):
    return b[at] | b[at + 1] << 8


def u32(b, at):
    return u16(b, at) | u16(b, at + 2) << 16


def signed(byte):
    return byte - 256 if byte > 127 else byte


def nibble(qs, i):
    """Of 32 weights in 16 bytes: the low nibbles are weights 0 to 15, the high ones 16 to 31."""
    return qs[i % 16] >> (4 * (i // 16)) & 15


def q4_0(b, i):
    return half(b, 0) * f32(nibble(b[2:], i) - 8)


def q4_1(b, i):
    return half(b, 0) * f32(nibble(b[4:], i)) + half(b, 2)


def q5_0(b, i):
    q = nibble(b[6:], i) | (u32(b, 2) >> i & 1) << 4
    return half(b, 0) * f32(q - 16)


def q5_1(b, i):
    q = nibble(b[8:], i) | (u32(b, 4) >> i & 1) << 4
    return half(b, 0) * f32(q) + half(b, 2)


def q8_0(b, i):
    return half(b, 0) * f32(signed(b[2 + i]))


def q2_k(b, i):
    scales, qs = b[:16], b[16:80]
    q = qs[32 * (i // 128) + i % 32] >> 2 * (i % 128 // 32) & 3
    s = scales[i // 16]
    return (half(b, 80) * f32(s & 15)) * f32(q) - half(b, 82) * f32(s >> 4)


def q3_k(b, i):
    hmask, qs, scales = b[:32], b[32:96], b[96:108]
    g = i // 16
    scale = (scales[g % 8] >> 4 * (g // 8) & 15 | (scales[8 + g % 4] >> 2 * (g // 4) & 3) << 4) - 32
    q = qs[32 * (i // 128) + i % 32] >> 2 * (i % 128 // 32) & 3
    q |= (hmask[i % 32] >> i // 32 & 1) << 2
    return (half(b, 108) * f32(scale)) * f32(q - 4)


def scale_min(s, g):
    if g < 4:
        return s[g] & 63, s[g + 4] & 63
    return s[g + 4] & 15 | s[g - 4] >> 6 << 4, s[g + 4] >> 4 | s[g] >> 6 << 4


def q4_k(b, i):
    scale, least = scale_min(b[4:16], i // 32)
    q = b[16 + 32 * (i // 64) + i % 32] >> 4 * (i // 32 % 2) & 15
    return (half(b, 0) * f32(scale)) * f32(q) - half(b, 2) * f32(least)


def q5_k(b, i):
    scale, least = scale_min(b[4:16], i // 32)
    q = b[48 + 32 * (i // 64) + i % 32] >> 4 * (i // 32 % 2) & 15
    q |= (b[16 + i % 32] >> i // 32 & 1) << 4
    return (half(b, 0) * f32(scale)) * f32(q) - half(b, 2) * f32(least)


def q6_k(b, i):
    ql, qh, scales = b[:128], b[128:192], b[192:208]
    q = ql[64 * (i // 128) + i % 64] >> 4 * (i % 128 // 64) & 15
    q |= (qh[32 * (i // 128) + i % 32] >> 2 * (i % 128 // 32) & 3) << 4
    return (half(b, 208) * f32(signed(scales[i // 16]))) * f32(q - 32)


def iq4_nl(b, i):
    return half(b, 0) * f32(LEVELS[nibble(b[2:], i)])


def iq4_xs(b, i):
    g = i // 32
    scale = (b[4 + g // 2] >> 4 * (g % 2) & 15 | (u16(b, 2) >> 2 * g & 3) << 4) - 32
    return (half(b, 0) * f32(scale)) * f32(LEVELS[nibble(b[8 + 16 * g:], i % 32)])


def e8m0_half(e):
    return np.uint32(0x0020_0000 << e if e < 2 else (e - 1) << 23).view(f32)


def mxfp4(b, i):
    return e8m0_half(b[0]) * f32(E2M1_DOUBLED[nibble(b[1:], i)])


def ue4m3(byte):
    exponent, mantissa = byte >> 3 & 15, byte & 7
    if byte in (0, 0x7F):
        return 0.0
    return mantissa / 512 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def nvfp4(b, i):
    g, j = i // 16, i % 16
    q = b[4 + 8 * g + j % 8] >> 4 * (j // 8) & 15
    return f32(ue4m3(b[g]) / 2) * f32(E2M1_DOUBLED[q])


def table(name):
    kind = getattr(quants, name)
    kind.init_grid()
    return kind.grid.reshape(kind.grid_shape)


def sign(index, j):
    """Seven signs are stored; the eighth makes the number of negative ones even."""
    byte = index | (bin(index).count("1") & 1) << 7
    return f32(-1 if byte >> j & 1 else 1)


def bit_sign(byte, j):
    return f32(-1 if byte >> j & 1 else 1)


def iq2_xxs(b, i):
    at, k = 2 + 8 * (i // 32), i % 32 // 8
    word = u32(b, at + 4)
    scale = half(b, 0) * (f32(0.5) + f32(word >> 28)) * f32(0.25)
    return scale * table("IQ2_XXS")[b[at + k]][i % 8] * sign(word >> 7 * k & 127, i % 8)


def iq2_xs(b, i):
    q = u16(b, 2 + 2 * (i // 8))
    s = b[66 + i // 32] >> 4 * (i // 16 % 2) & 15
    scale = half(b, 0) * (f32(0.5) + f32(s)) * f32(0.25)
    return scale * table("IQ2_XS")[q & 511][i % 8] * sign(q >> 9, i % 8)


def iq2_s(b, i):
    qs, signs, qh, scales = b[2:34], b[34:66], b[66:74], b[74:82]
    q = qs[i // 8] | (qh[i // 32] >> 2 * (i // 8 % 4) & 3) << 8
    s = scales[i // 32] >> 4 * (i // 16 % 2) & 15
    scale = half(b, 0) * (f32(0.5) + f32(s)) * f32(0.25)
    return scale * table("IQ2_S")[q][i % 8] * bit_sign(signs[i // 8], i % 8)


def iq3_xxs(b, i):
    word = u32(b, 66 + 4 * (i // 32))
    scale = half(b, 0) * (f32(0.5) + f32(word >> 28)) * f32(0.5)
    return scale * table("IQ3_XXS")[b[2 + i // 4]][i % 4] * sign(word >> 7 * (i % 32 // 8) & 127, i % 8)


def iq3_s(b, i):
    qs, qh, signs, scales = b[2:66], b[66:74], b[74:106], b[106:110]
    q = qs[i // 4] | (qh[i // 32] >> i // 4 % 8 & 1) << 8
    s = scales[i // 64] >> 4 * (i // 32 % 2) & 15
    return half(b, 0) * f32(1 + 2 * s) * table("IQ3_S")[q][i % 4] * bit_sign(signs[i // 8], i % 8)


def iq1_s(b, i):
    h = u16(b, 34 + 2 * (i // 32))
    q = b[2 + i // 8] | (h >> 3 * (i // 8 % 4) & 7) << 8
    scale = half(b, 0) * f32(2 * (h >> 12 & 7) + 1)
    return scale * (table("IQ1_S")[q][i % 8] + f32(-0.125 if h >> 15 else 0.125))


def iq1_m(b, i):
    words = [u16(b, 48 + 2 * k) for k in range(4)]
    bits = words[0] >> 12 | words[1] >> 12 << 4 | words[2] >> 12 << 8 | words[3] >> 12 << 12
    h = b[32 + i // 16] >> 4 * (i // 8 % 2) & 15
    q = b[i // 8] | (h & 7) << 8
    scale = half(struct.pack("<H", bits), 0) * f32(2 * (words[i // 64] >> 3 * (i // 16 % 4) & 7) + 1)
    return scale * (table("IQ1_M")[q][i % 8] + f32(-0.125 if h & 8 else 0.125))


def tq1_0(b, i):
    if i < 160:
        byte, power = b[i % 32], i // 32
    elif i < 240:
        byte, power = b[32 + i % 16], (i - 160) // 16
    else:
        byte, power = b[48 + i % 4], (i - 240) // 4
    trit = (byte * 3**power % 256) * 3 >> 8
    return half(b, 52) * f32(trit - 1)


def tq2_0(b, i):
    q = b[32 * (i // 128) + i % 32] >> 2 * (i % 128 // 32) & 3
    return half(b, 64) * f32(q - 1)


# Where the halves of a block stand.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
    "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "NVFP4": [], "IQ2_XXS": [0], "IQ2_XS": [0],
    "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [], "TQ1_0": [52], "TQ2_0": [64],
}


def blocks_of(name, count):
    block_bytes = GGML_QUANT_SIZES[Type[name]][1]
    random = np.random.default_rng(7)
    blocks = random.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for block in blocks:
        for at in HALVES[name]:
            block[at:at + 2] = np.array([random.uniform(-0.1, 0.1)], dtype="<f2").view(np.uint8)
        if name == "MXFP4":
            block[0] = random.integers(0, 250)
        if name == "NVFP4":
            block[:4] &= 0x7F
        if name == "IQ1_M":  # The top nibble of its scale, so that it is finite.
            block[55] = block[55] & 0x0F | 0x20
    return blocks


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for name in HALVES:
        block_len = GGML_QUANT_SIZES[Type[name]][0]
        blocks = blocks_of(name, count)
        expected = quants.dequantize(blocks, Type[name]).astype(f32)
        weight = globals()[name.lower()]
        found = np.array([[weight([int(x) for x in b], i) for i in range(block_len)] for b in blocks], dtype=f32)
        equal = int((found == expected).sum())
        print(f"{name:8} {equal} of {found.size} weights equal")
        assert equal == found.size, name


main()
