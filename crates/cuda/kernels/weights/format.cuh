// How weights lie in the device's memory, and how registers get them from there.
//
// A matrix [n_out, n_in] is cut into tiles of 16 rows, a tile into units of 64 columns (two blocks of 32). A unit holds, plane after
// plane, what each of a warp's 32 lanes needs for mma fragments: lane 4g + t has rows g and g + 8 (r = 0, 1), and of each block
// the columns 4t..4t+3 and 16+4t..16+4t+3 (h = 0, 1): eight values, "slots" 0 to 7. So one 16-byte load a lane brings a unit's
// nibbles, and no shuffle is needed. A row's integers and scales are the file's own; the formats with blocks of 256 keep their groups'
// scales as bytes and have, after each four units, one plane of the blocks' own scales. n_in is padded to 64 with weights of 0.
//
// Planes of a unit, in this order:
//   nibbles  512 B   uint4 a lane: words (kb 0, r 0), (kb 0, r 1), (kb 1, r 0), (kb 1, r 1); byte j: slot j low, slot 4 + j high;
//                    where nibbles index a table, slot s is nibble s, as a byte permutation takes its selectors; E2M1 where float16 are
//                    multiplied: see `e2m1_pair`
//   2 bits   256 B   uint2 a lane: word kb; field 2r + h (2 bits) of byte j: slot 4h + j
//   1 bit    128 B   word a lane; bit 4kb + 2r + h of byte j: slot 4h + j
//   bytes   1024 B   for each kb a uint4 a lane: (r, h) = (0, 0), (1, 0), (0, 1), (1, 1)
//   16 bits 2048 B   for each kb and r a uint4 a lane: slots 0 to 7
//   32 bits 4096 B   for each kb, r and h a uint4 a lane: slots 4h to 4h + 3
//   scales           for each g: see `Scales`
//
// Where matrices have a scale of their own (NVFP4), it stands after the last unit of each of their tiles, as a float32 and padding to a sector
// of the cache: whatever computes with a tile has it there, and it belongs to no more than one matrix.
#pragma once

#include "common.cuh"

// ggml's type ids.
enum Format : int {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
    IQ4_NL = 20, IQ4_XS = 23, BF16 = 30, MXFP4 = 39,
};

// What a unit's scale plane holds for one g.
enum Scales : int {
    SCALES_NONE,     // nothing: floats
    SCALES_HALF,     // 8 B: f16 scale of (r, kb), kb innermost
    SCALES_HALF_MIN, // 16 B: as above, then the f16 minimums in the same order
    SCALES_E8M0,     // 4 B: exponent byte of (r, kb)
    SCALES_I8,       // 4 B: signed byte of (r, kb); the tail plane has f16 d of r: 4 B
    SCALES_U8_MIN,   // 8 B: bytes of (r, kb), then the minimums; the tail plane has f16 d, dmin of r: 8 B
    SCALES_I8_16,    // 8 B: signed byte of (r, kb, h); the tail plane has f16 d of r: 4 B
    SCALES_U4_MIN16, // 8 B: byte of (r, kb, h), scale low nibble, minimum high; the tail plane has f16 d, dmin of r: 8 B
};

template <int F>
struct Layout {
    static constexpr bool NIBBLES = F == Q4_0 || F == Q4_1 || F == Q5_0 || F == Q5_1 || F == Q4_K || F == Q5_K || F == Q6_K ||
                                    F == IQ4_NL || F == IQ4_XS || F == MXFP4;
    static constexpr bool TABLE = F == IQ4_NL || F == IQ4_XS || F == MXFP4;
    static constexpr bool E2M1 = F == MXFP4;
    static constexpr bool TWO_BITS = F == Q6_K || F == Q2_K || F == Q3_K;
    static constexpr bool ONE_BIT = F == Q5_0 || F == Q5_1 || F == Q5_K || F == Q3_K;
    static constexpr bool BYTES = F == Q8_0;
    static constexpr bool FLOAT = F == F32 || F == F16 || F == BF16;
    static constexpr Scales SCALES = FLOAT                                  ? SCALES_NONE
                                     : F == MXFP4                           ? SCALES_E8M0
                                     : F == Q4_1 || F == Q5_1               ? SCALES_HALF_MIN
                                     : F == Q4_K || F == Q5_K               ? SCALES_U8_MIN
                                     : F == IQ4_XS                          ? SCALES_I8
                                     : F == Q6_K || F == Q3_K               ? SCALES_I8_16
                                     : F == Q2_K                            ? SCALES_U4_MIN16
                                                                            : SCALES_HALF;
    static constexpr bool HAS_MIN = SCALES == SCALES_HALF_MIN || SCALES == SCALES_U8_MIN || SCALES == SCALES_U4_MIN16;
    // Two scales a block of 32.
    static constexpr bool GROUPS_OF_16 = SCALES == SCALES_I8_16 || SCALES == SCALES_U4_MIN16;
    // `integers` are the weights' times 2^SHIFT: what is stored with an offset of half its range goes to the top of a byte, where
    // inverting the highest bit subtracts the offset; and E2M1 has halves (see `e2m1_times_4`).
    static constexpr int SHIFT = F == Q4_0 ? 4 : F == Q5_0 ? 3 : F == Q6_K ? 2 : F == Q3_K ? 5 : F == MXFP4 ? 2 : 0;

    static constexpr int SCALE_STRIDE = SCALES == SCALES_NONE                                     ? 0
                                        : SCALES == SCALES_E8M0 || SCALES == SCALES_I8            ? 4
                                        : SCALES == SCALES_HALF_MIN                               ? 16
                                                                                                  : 8;
    static constexpr int TAIL_STRIDE = SCALES == SCALES_I8 || SCALES == SCALES_I8_16             ? 4
                                       : SCALES == SCALES_U8_MIN || SCALES == SCALES_U4_MIN16    ? 8
                                                                                                 : 0;
    static constexpr int AT_2 = NIBBLES ? 512 : 0;
    static constexpr int AT_1 = AT_2 + (TWO_BITS ? 256 : 0);
    static constexpr int AT_8 = AT_1 + (ONE_BIT ? 128 : 0);
    static constexpr int AT_SCALES = FLOAT ? (F == F32 ? 4096 : 2048) : AT_8 + (BYTES ? 1024 : 0);
    static constexpr int UNIT = AT_SCALES + 8 * SCALE_STRIDE;
    static constexpr int TAIL = 8 * TAIL_STRIDE;  // after each four units
    static constexpr int TILE_SCALE = 0;          // after all of a tile

    __host__ __device__ static size_t tile_bytes(int n_unit) { return (size_t)n_unit * UNIT + (size_t)(n_unit / 4) * TAIL; }
    __host__ __device__ static size_t unit_at(int u) { return (size_t)u * UNIT + (size_t)(u >> 2) * TAIL; }
    __host__ __device__ static size_t tail_at(int u) { return unit_at(u | 3) + UNIT; }
};

// A unit as one lane holds it; what a format has not stays unset and costs nothing.
template <int F>
struct Unit {
    uint4 nibbles;
    uint2 two_bits;
    uint32_t one_bit;
    uint4 wide[Layout<F>::BYTES ? 2 : F == F32 ? 8 : Layout<F>::FLOAT ? 4 : 1];
    uint4 scales;
    uint2 tail;
};

// Where the scale of a tile of so many units is, in a format whose matrices have scales.
template <int F>
__device__ __forceinline__ const float* tile_scale_at(const uint8_t* tile, int n_unit) {
    static_assert(Layout<F>::TILE_SCALE > 0, "no scale of tiles");
    return (const float*)(tile + Layout<F>::unit_at(n_unit));
}

// Streams past L1: every weight is read once.
__device__ __forceinline__ uint4 load_once(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

// A lane's part of the integers of the unit at `p`: in shared memory, or, where STREAMED, in global memory and read once.
template <int F, bool STREAMED>
__device__ __forceinline__ void read_integers(Unit<F>& out, const uint8_t* p, int lane) {
    using L = Layout<F>;
    const auto wide = [](const uint4* at) { return STREAMED ? load_once(at) : *at; };
    if constexpr (L::NIBBLES) out.nibbles = wide((const uint4*)p + lane);
    if constexpr (L::TWO_BITS) out.two_bits = ((const uint2*)(p + L::AT_2))[lane];
    if constexpr (L::ONE_BIT) out.one_bit = ((const uint32_t*)(p + L::AT_1))[lane];
    if constexpr (L::BYTES) {
        out.wide[0] = wide((const uint4*)(p + L::AT_8) + lane);
        out.wide[1] = wide((const uint4*)(p + L::AT_8) + 32 + lane);
    }
    if constexpr (L::FLOAT) {
#pragma unroll
        for (int i = 0; i < (F == F32 ? 8 : 4); i++) out.wide[i] = wide((const uint4*)p + 32 * i + lane);
    }
}

// The scales of rows g and g + 8 of the unit at `p`, whose blocks' own scales are at `tail`.
template <int F>
__device__ __forceinline__ void read_scales(Unit<F>& out, const uint8_t* p, const uint8_t* tail, int g) {
    using L = Layout<F>;
    const uint8_t* s = p + L::AT_SCALES + g * L::SCALE_STRIDE;
    if constexpr (L::SCALE_STRIDE == 4) out.scales.x = *(const uint32_t*)s;
    if constexpr (L::SCALE_STRIDE == 8) {
        const uint2 v = *(const uint2*)s;
        out.scales.x = v.x, out.scales.y = v.y;
    }
    if constexpr (L::SCALE_STRIDE == 16) out.scales = *(const uint4*)s;
    const uint8_t* d = tail + g * L::TAIL_STRIDE;
    if constexpr (L::TAIL_STRIDE == 4) out.tail.x = *(const uint32_t*)d;
    if constexpr (L::TAIL_STRIDE == 8) out.tail = *(const uint2*)d;
}

template <int F>
__device__ __forceinline__ void load_unit(Unit<F>& out, const uint8_t* tile, int u, int lane) {
    read_integers<F, true>(out, tile + Layout<F>::unit_at(u), lane);
    read_scales<F>(out, tile + Layout<F>::unit_at(u), tile + Layout<F>::tail_at(u), lane >> 2);
}

__device__ __forceinline__ float half_at(uint32_t word, int i) {
    return __half2float(__ushort_as_half((unsigned short)(word >> (16 * i))));
}

// Four bytes of eight, by the low four nibbles of a selector; where a nibble's highest bit is set, its byte's highest bit throughout.
__device__ __forceinline__ uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(low), "r"(high), "r"(selector));
    return r;
}

// Bytes that the four nibbles of half h of a word pick out of a table of 16.
__device__ __forceinline__ uint32_t picked(const uint4& table, uint32_t word, int h) {
    const uint32_t index = (word & 0x77777777u) >> 16 * h;
    // Byte j of the table's first half, or of its second one where nibble j has its highest bit.
    const uint32_t which = (word >> 1 & 0x44444444u | 0x32103210u) >> 16 * h;
    return permute(permute(table.x, table.y, index), permute(table.z, table.w, index), which);
}

// A constant that stays in a register, as the compiler cannot see that no GPU has 2^31 multiprocessors. An instruction takes one constant, and where
// a permutation wants two, the compiler would copy one to a register before each. (As a __constant__ variable it makes the launch of every kernel of
// its file take 0.2 microseconds longer.)
__device__ __forceinline__ uint32_t kept(uint32_t constant) {
    uint32_t multiprocessor;
    asm("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
    return constant + (multiprocessor >> 31);
}

// The table of IQ4_NL and IQ4_XS, plus 128: -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113.
__device__ __forceinline__ uint4 iq4_plus_128() { return make_uint4(kept(0x3F2D1801u), kept(0x766A5D4Fu), kept(0xA6998D81u), kept(0xF1D9C5B5u)); }

// Four times the E2M1 values of the low four nibbles: 0 2 4 6 8 12 16 24 and their negatives.
__device__ __forceinline__ uint32_t e2m1_times_4(uint32_t nibbles) {
    const uint32_t index = nibbles & 0x77777777u;
    const uint32_t positive = permute(0x06040200u, 0x18100C08u, index), negative = permute(0xFAFCFE00u, 0xE8F0F4F8u, index);
    // Bytes whose upper 7 bits are all set or not; the values' lowest bits are 0.
    const uint32_t mask = permute(0x80808080u, 0x80808080u, nibbles) << 1;
    return (positive & ~mask) | (negative & mask);
}

// The same plus E2M1_BIAS, which makes all of them positive: with its highest bit set a selector's nibble then picks 0.
constexpr int E2M1_BIAS = 24;
__device__ __forceinline__ uint32_t e2m1_biased(uint32_t nibbles, uint32_t inverted) {
    return permute(0x1E1C1A18u, 0x30282420u, nibbles) | permute(0x12141618u, 0x00080C10u, inverted);
}

// Whether the eight E2M1 of a word are ordered so that pairs of float16 can be masked out of it.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool E2M1_IN_PAIRS = true;
#else
constexpr bool E2M1_IN_PAIRS = false;
#endif

// Pair i = 2h + p of such a word, slots 4h + p and 4h + p + 2, as float16 divided by 2^14. A float16 has the three bits of a magnitude at 9 to 11 and its
// sign at 15. No order of 16 bits lets four shifts bring four magnitudes with their signs there; in this one, no shift and one by 3 bring two.
__device__ __forceinline__ uint32_t e2m1_pair(uint32_t w, int i) {
    constexpr uint32_t MAGNITUDE = 0x0E000E00u, SIGN = 0x80008000u;
    return i == 0   ? w & (MAGNITUDE | SIGN)
           : i == 1 ? w << 3 & (MAGNITUDE | SIGN)
           : i == 2 ? (w << 6 & MAGNITUDE) | (w << 2 & SIGN)
                    : (w << 9 & MAGNITUDE) | (w << 1 & SIGN);
}
// Where in half a word the sign of pair i is; the magnitude is at 9 - 3i.
__device__ __forceinline__ int e2m1_sign_at(int i) { return i == 0 ? 15 : 11 + i; }

// Slot s of eight E2M1, and how it lies among them.
__device__ __forceinline__ uint32_t e2m1_of(uint32_t w, int s) {
    if (!E2M1_IN_PAIRS) return w >> 4 * s & 15;
    const int i = s >> 2 << 1 | (s & 1);
    const uint32_t half = w >> 16 * (s >> 1 & 1);
    return (half >> (9 - 3 * i) & 7) | (half >> e2m1_sign_at(i) & 1) << 3;
}
__device__ __forceinline__ uint32_t e2m1_at(uint32_t code, int s) {
    if (!E2M1_IN_PAIRS) return code << 4 * s;
    const int i = s >> 2 << 1 | (s & 1);
    return ((code & 7) << (9 - 3 * i) | code >> 3 << e2m1_sign_at(i)) << 16 * (s >> 1 & 1);
}
// Four of them (h) as the lowest nibbles.
__device__ __forceinline__ uint32_t e2m1_nibbles(uint32_t w, int h) {
    if (!E2M1_IN_PAIRS) return w >> 16 * h;
    return e2m1_of(w, 4 * h) | e2m1_of(w, 4 * h + 1) << 4 | e2m1_of(w, 4 * h + 2) << 8 | e2m1_of(w, 4 * h + 3) << 12;
}

// A lane's nibbles of row r in block kb.
template <int F>
__device__ __forceinline__ uint32_t nibbles_of(const Unit<F>& unit, int kb, int r) {
    return kb == 0 ? (r == 0 ? unit.nibbles.x : unit.nibbles.y) : (r == 0 ? unit.nibbles.z : unit.nibbles.w);
}

// Four integers (r, h) of block kb as signed bytes, times 2^SHIFT.
template <int F, bool BIASED = false>
__device__ __forceinline__ uint32_t integers(const Unit<F>& unit, int kb, int r, int h) {
    using L = Layout<F>;
    constexpr int SHIFT = L::SHIFT;
    if constexpr (L::BYTES) {
        const uint4 w = unit.wide[kb];
        return h == 0 ? (r == 0 ? w.x : w.y) : (r == 0 ? w.z : w.w);
    }
    const auto moved = [](uint32_t w, int by) { return by >= 0 ? w << by : w >> -by; };
    uint32_t q = 0;
    if constexpr (L::NIBBLES) {
        const uint32_t w = nibbles_of(unit, kb, r);
        if constexpr (L::TABLE && !L::E2M1) return picked(iq4_plus_128(), w, h) ^ 0x80808080u;
        if constexpr (L::E2M1) {
            const uint32_t nibbles = e2m1_nibbles(w, h);
            if constexpr (BIASED) return e2m1_biased(nibbles, nibbles ^ 0x88888888u);
            return e2m1_times_4(nibbles);
        }
        q = moved(w, SHIFT - 4 * h) & 0x0F0F0F0Fu << SHIFT;
    }
    if constexpr (L::TWO_BITS) {
        constexpr int TO = SHIFT + (L::NIBBLES ? 4 : 0);
        q |= moved(kb == 0 ? unit.two_bits.x : unit.two_bits.y, TO - (4 * r + 2 * h)) & 0x03030303u << TO;
    }
    if constexpr (L::ONE_BIT) {
        constexpr int TO = SHIFT + (L::NIBBLES ? 4 : 2);
        q |= moved(unit.one_bit, TO - (4 * kb + 2 * r + h)) & 0x01010101u << TO;
    }
    return SHIFT > 0 ? q ^ 0x80808080u : q;
}

// A byte as a float: its bits in the mantissa of 2^23, which is then subtracted; conversions are slow.
__device__ __forceinline__ float unsigned_byte(uint32_t word, int i) {
    return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7650u + i)) - 8388608.0f;
}
// Of a word whose bytes have had their highest bits inverted.
__device__ __forceinline__ float signed_byte(uint32_t inverted, int i) {
    return __uint_as_float(__byte_perm(inverted, 0x4B000000u, 0x7650u + i)) - 8388736.0f;
}

// What multiplies the weights of (kb, r, h), and what is added to each value (negative where the format subtracts a minimum).
template <int F>
__device__ __forceinline__ float2 scale_of(const Unit<F>& unit, int kb, int r, int h) {
    using L = Layout<F>;
    float2 s = make_float2(1.0f, 0.0f);
    if constexpr (L::SCALES == SCALES_HALF) s.x = half_at(r == 0 ? unit.scales.x : unit.scales.y, kb);
    if constexpr (L::SCALES == SCALES_HALF_MIN) {
        s.x = half_at(r == 0 ? unit.scales.x : unit.scales.y, kb);
        s.y = half_at(r == 0 ? unit.scales.z : unit.scales.w, kb);
    }
    if constexpr (L::SCALES == SCALES_E8M0) {
        const uint32_t e = (unit.scales.x >> (16 * r + 8 * kb)) & 0xFFu;
        s.x = __uint_as_float(e == 0 ? 0x00400000u : e << 23);
    }
    if constexpr (L::SCALES == SCALES_I8) {
        s.x = half_at(unit.tail.x, r) * signed_byte(unit.scales.x ^ 0x80808080u, 2 * r + kb);
    }
    if constexpr (L::SCALES == SCALES_U8_MIN) {
        const uint32_t d = r == 0 ? unit.tail.x : unit.tail.y;
        s.x = half_at(d, 0) * unsigned_byte(unit.scales.x, 2 * r + kb);
        s.y = -half_at(d, 1) * unsigned_byte(unit.scales.y, 2 * r + kb);
    }
    if constexpr (L::SCALES == SCALES_I8_16) {
        s.x = half_at(unit.tail.x, r) * signed_byte((r == 0 ? unit.scales.x : unit.scales.y) ^ 0x80808080u, 2 * kb + h);
    }
    if constexpr (L::SCALES == SCALES_U4_MIN16) {
        const uint32_t d = r == 0 ? unit.tail.x : unit.tail.y;
        const uint32_t b = r == 0 ? unit.scales.x : unit.scales.y;
        s.x = half_at(d, 0) * unsigned_byte(b & 0x0F0F0F0Fu, 2 * kb + h);
        s.y = -half_at(d, 1) * unsigned_byte(b >> 4 & 0x0F0F0F0Fu, 2 * kb + h);
    }
    return s;
}

// Four weights (r, h) of block kb as float32, the same bits as the format's definition but for the sign of an E2M1's zero.
template <int F>
__device__ __forceinline__ float4 weights(const Unit<F>& unit, int kb, int r, int h) {
    using L = Layout<F>;
    if constexpr (F == F32) {
        const uint4 w = unit.wide[4 * kb + 2 * r + h];
        return make_float4(__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z), __uint_as_float(w.w));
    } else if constexpr (L::FLOAT) {
        const uint4 w = unit.wide[2 * kb + r];
        const uint32_t a = h == 0 ? w.x : w.z, b = h == 0 ? w.y : w.w;
        if constexpr (F == BF16) {
            return make_float4(__uint_as_float(a << 16), __uint_as_float(a & 0xFFFF0000u), __uint_as_float(b << 16),
                               __uint_as_float(b & 0xFFFF0000u));
        } else {
            return make_float4(half_at(a, 0), half_at(a, 1), half_at(b, 0), half_at(b, 1));
        }
    } else if constexpr (L::E2M1 && E2M1_IN_PAIRS) {
        const uint32_t w = nibbles_of(unit, kb, r);
        const float2 s = scale_of<F>(unit, kb, r, h);
        const auto times = [&](uint32_t half) { return __fmul_rn(s.x, __half2float(__ushort_as_half((unsigned short)half)) * 0x1p14f); };
        const uint32_t a = e2m1_pair(w, 2 * h), b = e2m1_pair(w, 2 * h + 1);
        return make_float4(times(a), times(b), times(a >> 16), times(b >> 16));
    } else {
        const uint32_t q = integers<F>(unit, kb, r, h);
        const float2 s = scale_of<F>(unit, kb, r, h);
        float4 v;
        float* p = &v.x;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float i = (float)(int8_t)(q >> (8 * j)) * (1.0f / (1 << L::SHIFT));
            p[j] = L::HAS_MIN ? __fmaf_rn(s.x, i, s.y) : __fmul_rn(s.x, i);
        }
        return v;
    }
}
