// 16 positions of a head as a warp of attend_decode.cu holds them: loads straight to registers in the fragments of matrix instructions,
// and products with the weights.
#pragma once

#include "attend.cuh"

// Positions of a matrix instruction.
constexpr int TILE = 16;

// 16, 8 or 4 bytes at `from + OFFSET` that are read once; zeros if not `wanted`. By hand, so that rows share an address register.
template <int OFFSET>
__device__ __forceinline__ void load(uint4& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
                 " @p ld.global.nc.L1::no_allocate.v4.b32 {%0,%1,%2,%3}, [%4 + %6]; }"
                 : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

template <int OFFSET>
__device__ __forceinline__ void load(uint2& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; mov.b32 %0, 0; mov.b32 %1, 0;"
                 " @p ld.global.nc.L1::no_allocate.v2.b32 {%0,%1}, [%2 + %4]; }"
                 : "=&r"(v.x), "=&r"(v.y)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

template <int OFFSET>
__device__ __forceinline__ void load(uint32_t& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.nc.L1::no_allocate.b32 %0, [%1 + %3]; }"
                 : "=&r"(v)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

// How a head's values are spread over lanes 4g + t. Keys: t holds runs of 8 values of every 32 (of 4 of the last 16, if head_dim
// is no multiple of 32) of positions g and g + 8. Values: g holds runs of 8 of every 64, of 4 of every 32 and of 2 of every 16
// that remain, of positions 2t, 2t + 1, 2t + 8 and 2t + 9.
template <int HD>
struct Tile {
    static constexpr int K32 = HD / 32, K16 = HD % 32 / 16;
    static constexpr int V64 = HD / 64, V32 = HD % 64 / 32, V16 = HD % 32 / 16;
    static constexpr int N16 = HD / 16;

    uint4 k32[K32][2];
    uint2 k16[K16 + 1][2];
    uint4 v64[V64 + 1][4];
    uint2 v32[V32 + 1][4];
    uint32_t v16[V16 + 1][4];

    // Of the positions at `keys`, [16][head_dim].
    __device__ __forceinline__ void load_keys(const __half* keys, int g, int t) {
        load_keys_of<0>(keys + g * HD, t);
        load_keys_of<1>(keys + g * HD, t);
    }

    template <int I>
    __device__ __forceinline__ void load_keys_of(const __half* row, int t) {
        load_run<8 * I * HD, 32, K32>([&](int c) -> uint4& { return k32[c][I]; }, row + t * 8, true);
        if constexpr (K16 > 0) load<8 * I * HD + K32 * 32>(k16[0][I], row + t * 4, true);
    }

    // Positions from n_seen on may hold anything, also what is not a number: they are taken as 0.
    __device__ __forceinline__ void load_values(const __half* values, int n_seen, int g, int t) {
        const __half* row = values + 2 * t * HD;
        load_values_of<0, 0>(row, 2 * t < n_seen, g);
        load_values_of<1, 1>(row, 2 * t + 1 < n_seen, g);
        load_values_of<2, 8>(row, 2 * t + 8 < n_seen, g);
        load_values_of<3, 9>(row, 2 * t + 9 < n_seen, g);
    }

    template <int I, int P>
    __device__ __forceinline__ void load_values_of(const __half* row, bool seen, int g) {
        load_run<P * HD, 64, V64>([&](int c) -> uint4& { return v64[c][I]; }, row + g * 8, seen);
        if constexpr (V32 > 0) load<P * HD + V64 * 64>(v32[0][I], row + g * 4, seen);
        if constexpr (V16 > 0) load<P * HD + V64 * 64 + V32 * 32>(v16[0][I], row + g * 2, seen);
    }

    template <int OFFSET, int STEP, int N, int C = 0, typename To>
    static __device__ __forceinline__ void load_run(const To& to, const __half* from, bool wanted) {
        if constexpr (C < N) {
            load<OFFSET + C * STEP>(to(C), from, wanted);
            load_run<OFFSET, STEP, N, C + 1>(to, from, wanted);
        }
    }

    // Which value of the head stands in row g of fragment f of the sums; the next one stands in row g + 8.
    static __device__ __forceinline__ int value_of(int f, int g) {
        if (f < V64 * 4) return f / 4 * 64 + g * 8 + f % 4 * 2;
        if (f < V64 * 4 + V32 * 2) return V64 * 64 + g * 4 + (f - V64 * 4) * 2;
        return V64 * 64 + V32 * 32 + g * 2;
    }
};

// The terms of 16 positions' weights as B fragments.
struct Weights {
    uint32_t high[2], low[2];
};

// Adds two values of the head (rows g, g + 8 of a fragment) at the lane's four positions.
__device__ __forceinline__ void add_values(float (&c)[4], uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3, const Weights& w) {
    const uint32_t a0 = __byte_perm(v0, v1, 0x5410), a1 = __byte_perm(v0, v1, 0x7632);
    const uint32_t a2 = __byte_perm(v2, v3, 0x5410), a3 = __byte_perm(v2, v3, 0x7632);
    mma_f16(c, a0, a1, a2, a3, w.high[0], w.high[1]);
    mma_f16(c, a0, a1, a2, a3, w.low[0], w.low[1]);
}

template <int HD>
__device__ __forceinline__ void add_values(float (&acc)[HD / 16][4], const Tile<HD>& tile, const Weights& w) {
    using T = Tile<HD>;
#pragma unroll
    for (int c = 0; c < T::V64; c++) {
        const uint4(&v)[4] = tile.v64[c];
        add_values(acc[4 * c], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_values(acc[4 * c + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
        add_values(acc[4 * c + 2], v[0].z, v[1].z, v[2].z, v[3].z, w);
        add_values(acc[4 * c + 3], v[0].w, v[1].w, v[2].w, v[3].w, w);
    }
    if constexpr (T::V32 > 0) {
        const uint2(&v)[4] = tile.v32[0];
        add_values(acc[4 * T::V64], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_values(acc[4 * T::V64 + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
    }
    if constexpr (T::V16 > 0) {
        const uint32_t(&v)[4] = tile.v16[0];
        add_values(acc[T::N16 - 1], v[0], v[1], v[2], v[3], w);
    }
}
