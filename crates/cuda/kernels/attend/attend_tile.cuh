// 16 positions of a head as a warp of attend_decode.cuh holds them, of a cache of float16: loads straight to registers in the fragments of matrix instructions,
// and products with the weights.
#pragma once

#include "attend/attend.cuh"

// Positions of a matrix instruction.
constexpr int TILE = 16;

// 16 or 8 bytes at `from + OFFSET` that are read once; zeros if not `wanted`. By hand, so that rows share an address register.
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

// The terms of 16 positions' weights as B fragments.
struct Weights {
    uint32_t high[2], low[2];
};

// How a head's values are spread over lanes 4g + t. Keys: t holds runs of 8 values of every 32 of positions g and g + 8. Values: g holds runs
// of 8 of every 64 and of 4 of the 32 that may remain, of positions 2t, 2t + 1, 2t + 8 and 2t + 9.
template <int HD>
struct Tile {
    static constexpr int DIM = HD;
    static_assert(HD % 32 == 0, "heads of other sizes attend row by row");
    static constexpr int K32 = HD / 32, V64 = HD / 64, V32 = HD % 64 / 32;
    static constexpr int N16 = HD / 16;
    static constexpr bool PLACES = false;

    uint4 k32[K32][2];
    uint4 v64[V64 + 1][4];
    uint2 v32[V32 + 1][4];

    // A row's keys and values are in the cache before attention starts.
    struct Fresh {
        static constexpr bool WANTED = false;
    };

    // A page of a head: [PAGE][head_dim].
    static __device__ __forceinline__ const uint8_t* page_of(const void* cache, size_t index) {
        return (const uint8_t*)cache + index * (PAGE * HD * 2);
    }

    // Fetches 16 positions to the second-level cache.
    static __device__ __forceinline__ void prefetch(const uint8_t* keys, const uint8_t* values, int within, int lane) {
        // One run of bytes.
#pragma unroll
        for (int i = 0; i < TILE * HD * 2; i += 32 * 128) {
            const int byte = i + lane * 128;
            if (byte < TILE * HD * 2) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"(keys + within * HD * 2 + byte));
                asm volatile("prefetch.global.L2 [%0];" ::"l"(values + within * HD * 2 + byte));
            }
        }
    }

    // Of the 16 positions from `within` on.
    __device__ __forceinline__ void load_keys(const uint8_t* page, int within, int g, int t) {
        const __half* keys = (const __half*)page + within * HD;
        load_keys_of<0>(keys + g * HD, t);
        load_keys_of<1>(keys + g * HD, t);
    }

    template <int I>
    __device__ __forceinline__ void load_keys_of(const __half* row, int t) {
        load_run<8 * I * HD, 32, K32>([&](int c) -> uint4& { return k32[c][I]; }, row + t * 8, true);
    }

    // Positions from n_seen on may hold anything, also what is not a number: they are taken as 0.
    __device__ __forceinline__ void load_values(const uint8_t* page, int within, int n_seen, int g, int t) {
        const __half* row = (const __half*)page + (within + 2 * t) * HD;
        load_values_of<0, 0>(row, 2 * t < n_seen, g);
        load_values_of<1, 1>(row, 2 * t + 1 < n_seen, g);
        load_values_of<2, 8>(row, 2 * t + 8 < n_seen, g);
        load_values_of<3, 9>(row, 2 * t + 9 < n_seen, g);
    }

    template <int I, int P>
    __device__ __forceinline__ void load_values_of(const __half* row, bool seen, int g) {
        load_run<P * HD, 64, V64>([&](int c) -> uint4& { return v64[c][I]; }, row + g * 8, seen);
        if constexpr (V32 > 0) load<P * HD + V64 * 64>(v32[0][I], row + g * 4, seen);
    }

    template <int OFFSET, int STEP, int N, int C = 0, typename To>
    static __device__ __forceinline__ void load_run(const To& to, const __half* from, bool wanted) {
        if constexpr (C < N) {
            load<OFFSET + C * STEP>(to(C), from, wanted);
            load_run<OFFSET, STEP, N, C + 1>(to, from, wanted);
        }
    }

    // A lane's scores: [0], [1] are position g, heads 2t and 2t + 1; [2], [3] position g + 8. `query(i, term)` are B fragments.
    template <class Queries>
    __device__ __forceinline__ void scores(float (&s)[4], const Queries& query) const {
        float c[2][4] = {};
#pragma unroll
        for (int i = 0; i < K32; i++) {
            const uint4 a = k32[i][0], b = k32[i][1];
#pragma unroll
            for (int term = 0; term < 2; term++) {
                const uint4 q = query(i, term);
                mma_f16(c[0], a.x, b.x, a.y, b.y, q.x, q.y);
                mma_f16(c[1], a.z, b.z, a.w, b.w, q.z, q.w);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) s[i] = c[0][i] + c[1][i];
    }

    __device__ __forceinline__ void add_values(float (&acc)[N16][4], const Weights& w) const;

    // Which of the 16 positions has values in the i-th place of lane 4g + t.
    static __device__ __forceinline__ int value_position(int i, int t) { return 2 * t + (i & 1) + 8 * (i >> 1); }

    // Which value of the head stands in row g of fragment f of the sums; the next one stands in row g + 8.
    static __device__ __forceinline__ int value_of(int f, int g) {
        if (f < V64 * 4) return f / 4 * 64 + g * 8 + f % 4 * 2;
        return V64 * 64 + g * 4 + (f - V64 * 4) * 2;
    }
};

// Adds two values of the head (rows g, g + 8 of a fragment) at the lane's four positions.
__device__ __forceinline__ void add_two_values(float (&c)[4], uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3, const Weights& w) {
    const uint32_t a0 = __byte_perm(v0, v1, 0x5410), a1 = __byte_perm(v0, v1, 0x7632);
    const uint32_t a2 = __byte_perm(v2, v3, 0x5410), a3 = __byte_perm(v2, v3, 0x7632);
    mma_f16(c, a0, a1, a2, a3, w.high[0], w.high[1]);
    mma_f16(c, a0, a1, a2, a3, w.low[0], w.low[1]);
}

template <int HD>
__device__ __forceinline__ void Tile<HD>::add_values(float (&acc)[N16][4], const Weights& w) const {
#pragma unroll
    for (int c = 0; c < V64; c++) {
        const uint4(&v)[4] = v64[c];
        add_two_values(acc[4 * c], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_two_values(acc[4 * c + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
        add_two_values(acc[4 * c + 2], v[0].z, v[1].z, v[2].z, v[3].z, w);
        add_two_values(acc[4 * c + 3], v[0].w, v[1].w, v[2].w, v[3].w, w);
    }
    if constexpr (V32 > 0) {
        const uint2(&v)[4] = v32[0];
        add_two_values(acc[4 * V64], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_two_values(acc[4 * V64 + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
    }
}

// The same where attention itself puts a row's keys and values into the cache: it takes them from shared memory.
template <int HD>
struct PlacedTile : Tile<HD> {
    using Base = Tile<HD>;
    static constexpr bool PLACES = true;

    struct Fresh {
        static constexpr bool WANTED = true;
        alignas(16) __half kept[2][HD];  // keys, values
    };

    // The row's keys and values in place of those of the position `index` among the 16.
    __device__ __forceinline__ void take_keys(const Fresh& fresh, int index, int g, int t) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (g + 8 * i != index) continue;
#pragma unroll
            for (int c = 0; c < Base::K32; c++) this->k32[c][i] = *(const uint4*)&fresh.kept[0][c * 32 + t * 8];
        }
    }

    __device__ __forceinline__ void take_values(const Fresh& fresh, int index, int g, int t) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (Base::value_position(i, t) != index) continue;
#pragma unroll
            for (int c = 0; c < Base::V64; c++) this->v64[c][i] = *(const uint4*)&fresh.kept[1][c * 64 + g * 8];
            if constexpr (Base::V32 > 0) this->v32[0][i] = *(const uint2*)&fresh.kept[1][Base::V64 * 64 + g * 4];
        }
    }
};
