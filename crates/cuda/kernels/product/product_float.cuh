// Products of generated rows with weights of floats, of which Hopper takes those of 16 bits as product_half.cuh does: activations and (for
// F32) weights are split into two tf32 terms, which keeps about 21 bits. A block computes MT tiles of 16 rows for up to 8 NT columns, a warp one range of units.
#pragma once

#include "product/product_finish.cuh"

__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t to_tf32(float v) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r;
}

// Adds the products of one unit of floats.
template <int F, int NT, int MT>
__device__ __forceinline__ void add_floats(float (&acc)[MT][NT][4], const Unit<F> (&w)[MT], const ActOut& act, int u, const Columns& columns,
                                           int n_tiles_used, int lane) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int kb = 0; kb < 2; kb++) {
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (NT > 1 && n >= n_tiles_used) continue;
            const float4* x = (const float4*)(act.f + (size_t)columns.source(8 * n + g) * act.k_pad + u * 64 + kb * 32);
            const float4 v[2] = {x[t], x[4 + t]};
            const float* p = &v[0].x;
            uint32_t hi[8], lo[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                hi[j] = to_tf32(p[j]);
                lo[j] = to_tf32(p[j] - __uint_as_float(hi[j]));
            }
#pragma unroll
            for (int m = 0; m < MT; m++) {
                float4 f[2][2];
#pragma unroll
                for (int i = 0; i < 4; i++) f[i >> 1][i & 1] = weights<F>(w[m], kb, i >> 1, i & 1);
                const float* row0 = &f[0][0].x;
                const float* row1 = &f[1][0].x;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float values[4] = {row0[2 * j], row1[2 * j], row0[2 * j + 1], row1[2 * j + 1]};
                    uint32_t a[4], rest[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        a[i] = F == F32 ? to_tf32(values[i]) : __float_as_uint(values[i]);
                        rest[i] = F == F32 ? to_tf32(values[i] - __uint_as_float(a[i])) : 0;
                    }
                    mma_tf32(acc[m][n], a, lo[2 * j], lo[2 * j + 1]);
                    if constexpr (F == F32) mma_tf32(acc[m][n], rest, hi[2 * j], hi[2 * j + 1]);
                    mma_tf32(acc[m][n], a, hi[2 * j], hi[2 * j + 1]);
                }
            }
        }
    }
}

// Columns that are reduced together.
template <int MT, int NT>
__host__ __device__ constexpr int reduced_columns() {
    return 8 * (MT == 1 ? NT : NT < 2 ? NT : 2);
}

// Dynamic shared memory: the sums, the columns' scales, and what blocks of one tile exchange.
template <int NT, int MT>
__host__ __device__ constexpr int float_sums_bytes() {
    return WARPS * MT * 16 * (reduced_columns<MT, NT>() + 1) * 4;
}
template <int NT, int MT>
__host__ __device__ constexpr int float_bytes() {
    return float_sums_bytes<NT, MT>() + 8 * NT * 4 * (MT == 1 ? 33 : 1);
}

template <int F, int NT, int MT>
__device__ __forceinline__ void product_float(const ProductArgs& args) {
    using L = Layout<F>;
    constexpr int RC = reduced_columns<MT, NT>(), LD = RC + 1;
    extern __shared__ __align__(128) uint8_t shared[];
    float(*sums)[MT * 16][LD] = (float(*)[MT * 16][LD])shared;
    float* const scales = (float*)(shared + float_sums_bytes<NT, MT>());
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int tile0 = blockIdx.x * MT;
    const size_t tile_bytes = L::tile_bytes(args.n_unit);
    const uint8_t* w = args.w + tile0 * tile_bytes;
    const int u0 = range_start<F>(args.n_unit, warp), u1 = range_start<F>(args.n_unit, warp + 1);
    let_next_start();
    if (MT == 1 && args.next_weight) cluster_join();
    wait_for_previous();

    Columns columns{nullptr, 1, (int)blockIdx.y * 8 * NT, args.x.n_col};
    const float* bias = args.bias;
    const bool is_dense = args.column_divisor == 0;
    if (!is_dense) {
        if ((int)blockIdx.y >= args.active[0]) return;
        const int expert = args.active[1 + blockIdx.y];
        columns = Columns{args.entries, args.column_divisor, args.offsets[expert], args.offsets[expert + 1]};
        w += expert * args.expert_bytes;
        if (bias) bias += (size_t)expert * args.n_tile * 16;
    }
    for (; columns.first < columns.end; columns.first += 8 * NT) {
        const int n_column = min(columns.end - columns.first, 8 * NT);
        const int n_tiles_used = (n_column + 7) >> 3;
        if (args.squares) store_scales<8 * NT>(args, columns, scales);
        float acc[MT][NT][4] = {};
        for (int u = u0; u < u1; u++) {
            Unit<F> unit[MT];
#pragma unroll
            for (int m = 0; m < MT; m++) load_unit<F>(unit[m], w + min(m, args.n_tile - 1 - tile0) * tile_bytes, u, lane);
            add_floats<F, NT, MT>(acc, unit, args.x, u, columns, n_tiles_used, lane);
        }
#pragma unroll
        for (int c0 = 0; c0 < NT * 8; c0 += RC) {
            if (c0 >= n_column) break;
            __syncthreads();
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int n = 0; n < RC / 8; n++) {
                    const float(&v)[4] = acc[m][c0 / 8 + n];
                    sums[warp][m * 16 + g][n * 8 + 2 * t] = v[0];
                    sums[warp][m * 16 + g][n * 8 + 2 * t + 1] = v[1];
                    sums[warp][m * 16 + g + 8][n * 8 + 2 * t] = v[2];
                    sums[warp][m * 16 + g + 8][n * 8 + 2 * t + 1] = v[3];
                }
            __syncthreads();
            const Late<F> source{args, columns, c0, tile0 * 16, bias, scales, args.w};
            finish<Layout<F>::SHIFT, WARPS, MT * 16, LD>(args, sums, source, min(n_column - c0, RC), tile0, scales + 8 * NT);
        }
        if (is_dense) break;
        __syncthreads();
    }
}

#define PRODUCT(FORMAT, SUFFIX, NT, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) product_##SUFFIX##_n##NT##_m##MT(const __grid_constant__ ProductArgs args) { \
        product_float<FORMAT, NT, MT>(args); \
    }
// For up to 8, 32 and 64 columns; for few and for many tiles.
#define FLOAT_PRODUCTS(FORMAT, SUFFIX) \
    PRODUCT(FORMAT, SUFFIX, 1, 1) \
    PRODUCT(FORMAT, SUFFIX, 1, 4) \
    PRODUCT(FORMAT, SUFFIX, 4, 2) \
    PRODUCT(FORMAT, SUFFIX, 4, 4) \
    PRODUCT(FORMAT, SUFFIX, 8, 2) \
    PRODUCT(FORMAT, SUFFIX, 8, 4)
