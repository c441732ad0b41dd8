// 16 positions of a head in Q8_0 as a warp of attend_decode.cuh holds them: loads of integers and scales straight to registers, where
// they become the fragments of matrix instructions.
//
// A page of a head (KvQ8 below, and `plane_bytes` in src/placement/cache.rs) is the integers [PAGE][head_dim], then the scales in float16: of keys
// [PAGE][head_dim / 32], of values [head_dim / 32][PAGE], because a lane's keys are one position's and its values are two positions'.
#pragma once

#include "attend/attend_tile.cuh"
#include "attend/kv_q8.cuh"

// Of 4 integers the first two and the last two as exact float16.
__device__ __forceinline__ uint2 integers_to_half(uint32_t v) {
    // 1024 + 128 + q in the last bits of a float16, of which the unit is 1.
    const uint32_t biased = v ^ 0x80808080u;
    const __half2 offset = __half2half2(__ushort_as_half(0x6480));
    const uint32_t low = __byte_perm(biased, 0x64646464u, 0x4140), high = __byte_perm(biased, 0x64646464u, 0x4342);
    const __half2 a = __hsub2(*(const __half2*)&low, offset), b = __hsub2(*(const __half2*)&high, offset);
    return make_uint2(*(const uint32_t*)&a, *(const uint32_t*)&b);
}

// N float16 that begin at a multiple of their size, as far as that is a power of two.
template <int N>
__device__ __forceinline__ void load_scales(uint32_t (&to)[(N + 1) / 2], const uint8_t* from) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N / 8; i++) {
            const uint4 v = *(const uint4*)(from + 16 * i);
            to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
        }
    } else if constexpr (N % 4 == 0) {
        const uint2 v = *(const uint2*)from;
        to[0] = v.x, to[1] = v.y;
    } else if constexpr (N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i++) to[i] = *(const uint32_t*)(from + 4 * i);
    } else {
#pragma unroll
        for (int i = 0; i < (N + 1) / 2; i++) {
            const uint32_t low = *(const uint16_t*)(from + 4 * i);
            to[i] = 2 * i + 1 < N ? low | (uint32_t)*(const uint16_t*)(from + 4 * i + 2) << 16 : low;
        }
    }
}

// A row of keys and one of values on their way to the cache.
template <int HD>
struct FreshRow {
    static constexpr bool WANTED = true;
    alignas(16) int8_t q[2][HD];
    __half d[2][HD / 32];
};

// As Tile of attend_tile.cuh spreads a head over lanes 4g + t; sums are in the same places.
template <int HD>
struct TileQ8 {
    static constexpr int DIM = HD;
    static constexpr int K32 = HD / 32, V64 = HD / 64, V32 = HD % 64 / 32;
    static constexpr int N16 = HD / 16;
    static constexpr bool PLACES = false;
    using Fresh = FreshRow<HD>;
    using Kv = KvQ8<HD>;

    uint2 k32[K32][2];
    uint32_t k_scales[2][(K32 + 1) / 2];
    uint2 v64[V64 + 1][4];
    uint32_t v32[V32 + 1][4];
    // Of positions 2t and 2t + 1, of 2t + 8 and 2t + 9.
    uint32_t v64_scales[V64 + 1][2];
    uint32_t v32_scales[V32 + 1][2];

    static __device__ __forceinline__ const uint8_t* page_of(const void* cache, size_t index) {
        return (const uint8_t*)cache + index * Kv::PAGE_BYTES;
    }

    static __device__ __forceinline__ void prefetch(const uint8_t* keys, const uint8_t* values, int within, int lane) {
        const auto fetch = [](const uint8_t* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); };
#pragma unroll
        for (int i = 0; i < TILE * HD; i += 32 * 128) {
            const int byte = i + lane * 128;
            if (byte < TILE * HD) fetch(keys + within * HD + byte), fetch(values + within * HD + byte);
        }
        if (lane == 31) fetch(keys + Kv::SCALES_AT + within * K32 * 2);
        if (lane < K32) fetch(values + Kv::SCALES_AT + (lane * PAGE + within) * 2);
    }

    // Of the 16 positions from `within` on.
    __device__ __forceinline__ void load_keys(const uint8_t* page, int within, int g, int t) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int position = within + g + 8 * i;
#pragma unroll
            for (int c = 0; c < K32; c++) k32[c][i] = *(const uint2*)(page + position * HD + c * 32 + t * 8);
            load_scales<K32>(k_scales[i], page + Kv::SCALES_AT + position * K32 * 2);
        }
    }

    // Integers and scales of positions that nobody has written yet are finite, so a weight of 0 is enough.
    __device__ __forceinline__ void load_values(const uint8_t* page, int within, int, int g, int t) {
        const uint8_t* scales = page + Kv::SCALES_AT + (within + 2 * t) * 2;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint8_t* row = page + (within + value_position(i, t)) * HD;
#pragma unroll
            for (int c = 0; c < V64; c++) v64[c][i] = *(const uint2*)(row + c * 64 + g * 8);
            if constexpr (V32 > 0) v32[0][i] = *(const uint32_t*)(row + V64 * 64 + g * 4);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int c = 0; c < V64; c++) v64_scales[c][i] = *(const uint32_t*)(scales + ((2 * c + (g >> 2)) * PAGE + 8 * i) * 2);
            if constexpr (V32 > 0) v32_scales[0][i] = *(const uint32_t*)(scales + (2 * V64 * PAGE + 8 * i) * 2);
        }
    }

    static __device__ __forceinline__ int value_position(int i, int t) { return 2 * t + (i & 1) + (i >> 1) * 8; }

    // Takes the row at `index` of the 16 from shared memory: it is not in the cache yet.
    __device__ __forceinline__ void take_keys(const Fresh& fresh, int index, int g, int t) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (g + 8 * i != index) continue;
#pragma unroll
            for (int c = 0; c < K32; c++) k32[c][i] = *(const uint2*)&fresh.q[0][c * 32 + t * 8];
#pragma unroll
            for (int j = 0; j < (K32 + 1) / 2; j++) {
                const uint32_t low = __half_as_ushort(fresh.d[0][2 * j]);
                k_scales[i][j] = 2 * j + 1 < K32 ? low | (uint32_t)__half_as_ushort(fresh.d[0][2 * j + 1]) << 16 : low;
            }
        }
    }

    __device__ __forceinline__ void take_values(const Fresh& fresh, int index, int g, int t) {
        const auto put = [](uint32_t& pair, int side, __half d) {
            const uint32_t bits = __half_as_ushort(d);
            pair = side ? (pair & 0xffffu) | bits << 16 : (pair & 0xffff0000u) | bits;
        };
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (value_position(i, t) != index) continue;
#pragma unroll
            for (int c = 0; c < V64; c++) {
                v64[c][i] = *(const uint2*)&fresh.q[1][c * 64 + g * 8];
                put(v64_scales[c][i >> 1], i & 1, fresh.d[1][2 * c + (g >> 2)]);
            }
            if constexpr (V32 > 0) {
                v32[0][i] = *(const uint32_t*)&fresh.q[1][V64 * 64 + g * 4];
                put(v32_scales[0][i >> 1], i & 1, fresh.d[1][2 * V64]);
            }
        }
    }

    // Adds the scores of the lane's two positions and two heads. Scales are applied to the sums of 32, which are exact in the integers.
    template <class Queries>
    __device__ __forceinline__ void scores(float (&s)[4], const Queries& query) const {
#pragma unroll
        for (int i = 0; i < 4; i++) s[i] = 0.0f;
#pragma unroll
        for (int c = 0; c < K32; c++) {
            const uint2 a0 = integers_to_half(k32[c][0].x), b0 = integers_to_half(k32[c][1].x);
            const uint2 a1 = integers_to_half(k32[c][0].y), b1 = integers_to_half(k32[c][1].y);
            float even[4] = {}, odd[4] = {};
#pragma unroll
            for (int term = 0; term < 2; term++) {
                const uint4 q = query(c, term);
                mma_f16(even, a0.x, b0.x, a0.y, b0.y, q.x, q.y);
                mma_f16(odd, a1.x, b1.x, a1.y, b1.y, q.z, q.w);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const uint32_t pair = k_scales[i][c / 2];
                const float d = __half2float(__ushort_as_half((unsigned short)(c % 2 ? pair >> 16 : pair)));
                s[2 * i] = fmaf(d, even[2 * i] + odd[2 * i], s[2 * i]);
                s[2 * i + 1] = fmaf(d, even[2 * i + 1] + odd[2 * i + 1], s[2 * i + 1]);
            }
        }
    }

    // Adds 4 values of the head, in two fragments, at the lane's four positions.
    static __device__ __forceinline__ void add_four(float (&c0)[4], float (&c1)[4], const uint32_t (&v)[4], const uint32_t (&scales)[2],
                                                    const Weights& w) {
        uint32_t a[2][2][2];  // [pair of positions][fragment][row g, row g + 8]
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const __half2 d = *(const __half2*)&scales[i];
#pragma unroll
            for (int f = 0; f < 2; f++) {
                // Two values of one position, then of the next: a value at both positions is an operand.
                const uint2 pair = integers_to_half(__byte_perm(v[2 * i], v[2 * i + 1], f ? 0x7362 : 0x5140));
                const __half2 low = __hmul2(*(const __half2*)&pair.x, d), high = __hmul2(*(const __half2*)&pair.y, d);
                a[i][f][0] = *(const uint32_t*)&low, a[i][f][1] = *(const uint32_t*)&high;
            }
        }
        mma_f16(c0, a[0][0][0], a[0][0][1], a[1][0][0], a[1][0][1], w.high[0], w.high[1]);
        mma_f16(c1, a[0][1][0], a[0][1][1], a[1][1][0], a[1][1][1], w.high[0], w.high[1]);
        mma_f16(c0, a[0][0][0], a[0][0][1], a[1][0][0], a[1][0][1], w.low[0], w.low[1]);
        mma_f16(c1, a[0][1][0], a[0][1][1], a[1][1][0], a[1][1][1], w.low[0], w.low[1]);
    }

    __device__ __forceinline__ void add_values(float (&acc)[N16][4], const Weights& w) const {
#pragma unroll
        for (int c = 0; c < V64; c++) {
            const uint2(&v)[4] = v64[c];
            add_four(acc[4 * c], acc[4 * c + 1], {v[0].x, v[1].x, v[2].x, v[3].x}, v64_scales[c], w);
            add_four(acc[4 * c + 2], acc[4 * c + 3], {v[0].y, v[1].y, v[2].y, v[3].y}, v64_scales[c], w);
        }
        if constexpr (V32 > 0) add_four(acc[4 * V64], acc[4 * V64 + 1], v32[0], v32_scales[0], w);
    }

    static __device__ __forceinline__ int value_of(int f, int g) { return Tile<HD>::value_of(f, g); }
};
