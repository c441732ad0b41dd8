// The arithmetic of products in float16, the same for every kernel: weights unpacked in registers, tensor cores, float32 sums.
//
// A weight of 16 bits is rounded to float16, as for the prompt's products. Any other is its integer times its scale, and with the minimum added where there is one, divided by 2^WEIGHT_SHIFT and rounded to float16, as
// the scale and the minimum are. n_in is cut into 8 ranges of whole quads of units. A range is one chain of steps of 16 in ascending order of k, begun at zero, and an
// element the sum of its ranges in order. The chains of mma.sync and of wgmma have the same bits (seen, not documented).
#pragma once

#include "product/product_finish.cuh"
#include "tensor_core.cuh"

// Copies 16 bytes of weights to shared memory on its own. They are read once a step, and the second-level cache evicts them first: what it keeps
// instead, code, activations, tables and the KV cache, would take a memory's latency again and again.
__device__ __forceinline__ void copy_weights_once(uint32_t to, const void* from) {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy) : "memory");
}

__device__ __forceinline__ uint32_t bits_of(__half2 v) { return *(const uint32_t*)&v; }
__device__ __forceinline__ __half2 halves_of(uint32_t bits) { return *(const __half2*)&bits; }
__device__ __forceinline__ __half2 twice(float v) { return __float2half2_rn(v); }

// Half i of a word, twice.
__device__ __forceinline__ __half2 half_twice(uint32_t word, int i) { return halves_of(__byte_perm(word, 0, i == 0 ? 0x1010 : 0x3232)); }

// 0x6400 is 1024, and bytes and nibbles in its mantissa are added to that.
constexpr uint32_t HALF_MAGIC = 0x64006400u;

// Whether there are two ways to the same weights, of which the faster converts no nibbles: see `half_weights_fast`.
template <int F>
constexpr bool HAS_FAST = F == Q4_K;

// What is unpacked is weights divided by 2^WEIGHT_SHIFT.
template <int F>
constexpr int WEIGHT_SHIFT = HAS_FAST<F> ? 6 : 0;

// Their scales are kept times 2^SCALE_SHIFT, so that what is left to make up for is a float16.
template <int F>
constexpr int SCALE_SHIFT = HAS_FAST<F> ? 4 : 0;

// Bytes i and i + 1 of a word, less `offset`, times a power of two.
__device__ __forceinline__ __half2 two_bytes(uint32_t word, int i, float offset, float times = 1.0f) {
    const __half2 bytes = halves_of(__byte_perm(word, HALF_MAGIC, 0x5150 + i * 0x0101));
    return times == 1.0f ? __hadd2_rn(bytes, twice(-1024.0f - offset)) : __hfma2(bytes, twice(times), twice((-1024.0f - offset) * times));
}

// Of two groups each, a value for each of them: those of both blocks, or of both halves of block kb.
struct HalfScales {
    __half2 factor, added;
};

// What multiplies weights of row r, times 2^SCALE_SHIFT, and what is added to each, divided by 2^WEIGHT_SHIFT.
template <int F>
__device__ __forceinline__ HalfScales half_scales(const Unit<F>& unit, int kb, int r) {
    using L = Layout<F>;
    HalfScales s{};
    if constexpr (L::SCALES == SCALES_HALF) {
        s.factor = halves_of(r == 0 ? unit.scales.x : unit.scales.y);
    } else if constexpr (L::SCALES == SCALES_HALF_MIN) {
        s.factor = halves_of(r == 0 ? unit.scales.x : unit.scales.y);
        s.added = halves_of(r == 0 ? unit.scales.z : unit.scales.w);
    } else if constexpr (L::SCALES == SCALES_I8) {
        s.factor = __hmul2_rn(half_twice(unit.tail.x, r), two_bytes(unit.scales.x ^ 0x80808080u, 2 * r, 128.0f));
    } else if constexpr (L::SCALES == SCALES_U4_MIN16) {
        const uint32_t d = r == 0 ? unit.tail.x : unit.tail.y, b = r == 0 ? unit.scales.x : unit.scales.y;
        s.factor = __hmul2_rn(half_twice(d, 0), two_bytes(b & 0x0F0F0F0Fu, 2 * kb, 0.0f));
        s.added = __hmul2_rn(half_twice(d ^ 0x80000000u, 1), two_bytes(b >> 4 & 0x0F0F0F0Fu, 2 * kb, 0.0f));
    } else if constexpr (L::SCALES == SCALES_U8_MIN) {
        constexpr float UP = 1 << SCALE_SHIFT<F>, DOWN = 1.0f / (1 << WEIGHT_SHIFT<F>);
        const uint32_t d = r == 0 ? unit.tail.x : unit.tail.y;
        s.factor = __hmul2_rn(half_twice(d, 0), two_bytes(unit.scales.x, 2 * r, 0.0f, UP));
        s.added = __hmul2_rn(half_twice(d ^ 0x80000000u, 1), two_bytes(unit.scales.y, 2 * r, 0.0f, DOWN));
    } else {
        static_assert(L::SCALES == SCALES_I8_16, "E8M0 and E4M3 have functions of their own");
        const uint32_t bytes = (r == 0 ? unit.scales.x : unit.scales.y) ^ 0x80808080u;
        s.factor = __hmul2_rn(half_twice(unit.tail.x, r), two_bytes(bytes, 2 * kb, 128.0f));
    }
    return s;
}

// (w & mask) | HALF_MAGIC in one, which the compiler makes two of.
template <uint32_t MASK>
__device__ __forceinline__ __half2 magic_bits(uint32_t w) {
    uint32_t q;
    asm("lop3.b32 %0, %1, %2, 0x64006400, 0xEA;" : "=r"(q) : "r"(w), "n"(MASK));
    return halves_of(q);
}

// The integers of (kb, r, h), exactly, divided by 2^(SCALE_SHIFT + WEIGHT_SHIFT): of slots p and p + 2.
template <int F>
__device__ __forceinline__ __half2 half_integers(const Unit<F>& unit, int kb, int r, int h, int p) {
    using L = Layout<F>;
    constexpr float DOWN = 1.0f / (1 << (SCALE_SHIFT<F> + WEIGHT_SHIFT<F>));
    if constexpr (L::NIBBLES && !L::TABLE && !L::TWO_BITS && !L::ONE_BIT) {
        constexpr float OFFSET = L::HAS_MIN ? 0.0f : 8.0f;
        const uint32_t w = nibbles_of<F>(unit, kb, r) >> 8 * p;
        if (h == 0) return __hfma2(magic_bits<0x000F000Fu>(w), twice(DOWN), twice((-1024.0f - OFFSET) * DOWN));
        return __hfma2(magic_bits<0x00F000F0u>(w), twice(DOWN / 16.0f), twice((-64.0f - OFFSET) * DOWN));
    } else {
        // What `integers` gives is signed, unless there are minimums.
        constexpr float OFFSET = L::HAS_MIN ? 0.0f : 128.0f, UNIT_OF = DOWN / (1 << L::SHIFT);
        const uint32_t q = integers<F>(unit, kb, r, h) ^ (L::HAS_MIN ? 0 : 0x80808080u);
        const __half2 v = halves_of(__byte_perm(q, L::TABLE ? kept(HALF_MAGIC) : HALF_MAGIC, p == 0 ? 0x5250 : 0x5351));
        return __hfma2(v, twice(UNIT_OF), twice((-1024.0f - OFFSET) * UNIT_OF));
    }
}

// A lane's weights of block kb as the A fragments of two steps of 16 (h), in which columns 4t and 4t + 2 of the block's half stand at k = 2t
// and the next, and columns 4t + 1 and 4t + 3 eight later. `q(r, h, p)` are integers, to be multiplied by `factor` times `times(h)`.
template <int F, class Integers, class Times>
__device__ __forceinline__ void scale_half(uint32_t (&a)[2][4], const Unit<F>& unit, int kb, const Integers& q, const Times& times) {
    using L = Layout<F>;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const HalfScales both = half_scales<F>(unit, kb, r);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const bool is_second = (L::GROUPS_OF_16 ? h : kb) == 1;
            const __half2 scale = times(both.factor, h);
            const __half2 factor = is_second ? __high2half2(scale) : __low2half2(scale);
            const __half2 added = is_second ? __high2half2(both.added) : __low2half2(both.added);
#pragma unroll
            for (int p = 0; p < 2; p++) a[h][r + 2 * p] = bits_of(L::HAS_MIN ? __hfma2(q(r, h, p), factor, added) : __hmul2_rn(q(r, h, p), factor));
        }
    }
}

// E2M1 of block kb, in pairs, divided by 2^14 and multiplied by `factor(r, h)`.
template <int F, class Factor>
__device__ __forceinline__ void e2m1_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb, const Factor& factor) {
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int i = 0; i < 4; i++) a[i >> 1][r + 2 * (i & 1)] = bits_of(__hmul2_rn(halves_of(e2m1_pair(nibbles_of(unit, kb, r), i)), factor(r, i >> 1)));
}

// A scale of E8M0 is an exponent, which makes up for the division.
__device__ __forceinline__ void mxfp4_weights(uint32_t (&a)[2][4], const Unit<MXFP4>& unit, int kb) {
    // Of both rows.
    const uint32_t e = __byte_perm(unit.scales.x, 0, kb == 0 ? 0x4240 : 0x4341);
    // 2^(e - 113), whose exponent is stored plus 15; or 0, where all products are too small for a float16.
    const __half2 factor = halves_of((__vmaxu2(e, 98 * 0x10001u) - 98 * 0x10001u) * 1024);
    e2m1_weights(a, unit, kb, [&](int r, int) { return r == 0 ? __low2half2(factor) : __high2half2(factor); });
}

// The same where scales are too large for that: in two steps.
__device__ __forceinline__ void mxfp4_large_weights(uint32_t (&a)[2][4], const Unit<MXFP4>& unit, int kb) {
    e2m1_weights(a, unit, kb, [](int, int) { return twice(16384.0f); });
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const __half2 factor = twice(fminf(scale_of<MXFP4>(unit, kb, r, 0).x, 32768.0f));
#pragma unroll
        for (int i = 0; i < 4; i++) a[i >> 1][r + 2 * (i & 1)] = bits_of(__hmul2_rn(halves_of(a[i >> 1][r + 2 * (i & 1)]), factor));
    }
}

// Weights of 16 bits.
template <int F>
__device__ __forceinline__ void float_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb) {
    static_assert(F == F16 || F == BF16, "float32 would lose too much");
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint4 w = unit.wide[2 * kb + r];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t first = h == 0 ? w.x : w.z, second = h == 0 ? w.y : w.w;
#pragma unroll
            for (int p = 0; p < 2; p++) {
                if constexpr (F == F16) {
                    a[h][r + 2 * p] = __byte_perm(first, second, p == 0 ? 0x5410 : 0x7632);
                } else {
                    const auto value = [&](uint32_t w) { return __uint_as_float(p == 0 ? w << 16 : w & 0xFFFF0000u); };
                    a[h][r + 2 * p] = bits_of(__floats2half2_rn(value(first), value(second)));
                }
            }
        }
    }
}

template <int F>
__device__ __forceinline__ void half_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb) {
    if constexpr (Layout<F>::FLOAT) {
        float_weights<F>(a, unit, kb);
    } else if constexpr (F == MXFP4) {
        // Scales up to 1, as those of all weights that a model is likely to have, or larger ones.
        if ((unit.scales.x & 0x80808080u) == 0) mxfp4_weights(a, unit, kb);
        else mxfp4_large_weights(a, unit, kb);
    } else {
        scale_half<F>(a, unit, kb, [&](int r, int h, int p) { return half_integers<F>(unit, kb, r, h, p); }, [](__half2 factor, int) { return factor; });
    }
}

// The same bits with fewer instructions, unless a scale is too large: nibbles are float16 as they stand, q 2^-24 or q 2^-20, and the scales
// make up for that.
template <int F>
__device__ __forceinline__ void half_weights_fast(uint32_t (&a)[2][4], const Unit<F>& unit, int kb) {
    constexpr int LOW = 24 - SCALE_SHIFT<F> - WEIGHT_SHIFT<F>;
    const auto nibbles = [&](int r, int h, int p) {
        return halves_of(nibbles_of<F>(unit, kb, r) >> 8 * p & (h == 0 ? 0x000F000Fu : 0x00F000F0u));
    };
    scale_half<F>(a, unit, kb, nibbles, [](__half2 factor, int h) { return __hmul2_rn(factor, twice(1 << (h == 0 ? LOW : LOW - 4))); });
}

// Whether the scales of a lane's units are small enough for the faster of two ways to the same weights, where a format has two.
template <int F>
__device__ __forceinline__ bool is_fast(const uint8_t* weights, const uint8_t* tail, int n, int g) {
    using L = Layout<F>;
    if constexpr (F == MXFP4) {
        // Up to 1, as those of all weights that a model is likely to have.
        uint32_t all = 0;
        for (int j = 0; j < n; j++) all |= *(const uint32_t*)(weights + j * L::UNIT + L::AT_SCALES + g * L::SCALE_STRIDE);
        return (all & 0x80808080u) == 0;
    } else if constexpr (HAS_FAST<F>) {
        static_assert(WEIGHT_SHIFT<F> == 6, "2^(WEIGHT_SHIFT - 8), as a float16 is below 2^16");
        constexpr uint32_t LIMIT = 0x1C00;  // 2^-8: 6-bit numbers times these are below 1 / 4
        const uint2 own = *(const uint2*)(tail + g * L::TAIL_STRIDE);
        return (own.x & 0x7FFF) < LIMIT && (own.y & 0x7FFF) < LIMIT;
    } else {
        return true;
    }
}

// Units of a warp's row that product_half_narrow.cuh copies at a time: a "quad", or half of one where the weights are large.
template <int F>
constexpr int QUAD = Layout<F>::FLOAT ? 2 : 4;

// A warp's weights of the first `n` of UNITS units in shared memory, whose blocks' own scales are at `tail`: `with(i, a)` multiplies block i.
template <int F, int UNITS, class With>
__device__ __forceinline__ void each_block(const uint8_t* weights, const uint8_t* tail, int n, const With& with) {
    using L = Layout<F>;
    const int lane = threadIdx.x & 31, g = lane >> 2;
    const auto unit_of = [&](int j, const auto& unpack) {
        Unit<F> unit;
        read_integers<F, false>(unit, weights + j * L::UNIT, lane);
        read_scales<F>(unit, weights + j * L::UNIT, tail, g);
#pragma unroll
        for (int kb = 0; kb < 2; kb++) {
            __align__(16) uint32_t a[2][4];
            unpack(a, unit, kb);
            with(2 * j + kb, a);
        }
    };
    // Whole quads, nearly all, in one piece, so that the units overlap.
    if ((L::TAIL > 0 || n == UNITS) && __all_sync(~0u, is_fast<F>(weights, tail, UNITS, g))) {
#pragma unroll
        for (int j = 0; j < UNITS; j++)
            unit_of(j, [](uint32_t (&a)[2][4], const Unit<F>& unit, int kb) {
                if constexpr (F == MXFP4) mxfp4_weights(a, unit, kb);
                else if constexpr (HAS_FAST<F>) half_weights_fast<F>(a, unit, kb);
                else half_weights<F>(a, unit, kb);
            });
    } else {
#pragma unroll 1
        for (int j = 0; j < n; j++) unit_of(j, [](uint32_t (&a)[2][4], const Unit<F>& unit, int kb) { half_weights<F>(a, unit, kb); });
    }
}
