// The arithmetic of products with weights of integers: the same for every kernel.
#pragma once

#include "product/product_finish.cuh"

// 1.5 * 2^23: an integer of less than 2^22 added to its bits is added to its value.
constexpr int MAGIC_BITS = 0x4B400000;
constexpr float MAGIC = 12582912.0f;

// d = a b + c.
__device__ __forceinline__ void mma_s8_k32(int (&d)[4], uint4 a, uint2 b, int c0, int c1, int c2, int c3) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}

__device__ __forceinline__ void mma_s8_k16(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t b, int c0, int c1, int c2, int c3) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}

// BIASED: of weights with a bias that the sums' start takes off (see `e2m1_biased`).
// The dot products of block kb of a unit, one set for each group of scales: added to `c` itself, or, where IS_FIRST, to `start`.
template <int F, bool IS_FIRST, bool BIASED = false, int GROUPS>
__device__ __forceinline__ void multiply_block(int (&c)[GROUPS][4], const Unit<F>& w, int kb, uint2 b, int start = MAGIC_BITS) {
    const auto of = [&](int r, int h) { return integers<F, BIASED>(w, kb, r, h); };
    const uint4 a = make_uint4(of(0, 0), of(1, 0), of(0, 1), of(1, 1));
    const auto from = [&](int h, int i) { return IS_FIRST ? start : c[h][i]; };
    if constexpr (GROUPS == 2) {
        mma_s8_k16(c[0], a.x, a.y, b.x, from(0, 0), from(0, 1), from(0, 2), from(0, 3));
        mma_s8_k16(c[1], a.z, a.w, b.y, from(1, 0), from(1, 1), from(1, 2), from(1, 3));
    } else {
        mma_s8_k32(c[0], a, b, from(0, 0), from(0, 1), from(0, 2), from(0, 3));
    }
}

// Sums of the activations' integers for each half of a block, in every row.
__device__ __forceinline__ void sums_of_groups(int (&c)[2][4], uint2 b) {
    mma_s8_k16(c[0], 0x01010101u, 0x01010101u, b.x, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS);
    mma_s8_k16(c[1], 0x01010101u, 0x01010101u, b.y, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS);
}

// A group's dot product (and, for Q2_K, its sum of activations) into the sum of its stripe.
template <int F>
__device__ __forceinline__ float add_block(float acc, int dot, float2 w, ActScale x, int sum) {
    acc = __fmaf_rn(__fmul_rn(w.x, x.d), __fsub_rn(__int_as_float(dot), MAGIC), acc);
    if constexpr (Layout<F>::HAS_MIN) {
        const float weighted = F == Q2_K ? __fmul_rn(x.d, __fsub_rn(__int_as_float(sum), MAGIC)) : x.sum;
        acc = __fmaf_rn(w.y, weighted, acc);
    }
    return acc;
}

// Adds the products of a unit and 8 NT columns to those of stripe `stripe`: `q` their integers, [block][column][32], `s` their scales,
// [block][column]. A lane has rows g and g + 8 of columns 2t and 2t + 1.
template <int F, int NT>
__device__ __forceinline__ void add_unit(float (&acc)[4][NT][4], int stripe, const Unit<F>& w, const uint8_t* q, const uint8_t* s, int lane) {
    constexpr int GROUPS = Layout<F>::GROUPS_OF_16 ? 2 : 1;
    const int t = lane & 3;
    // While an mma runs, the sums of the one before it are scaled and the activations of the one after it are read.
    const auto b_of = [&](int i) { return ((const uint2*)(q + i * 256))[lane]; };
    const auto scales_of = [&](int i) { return ((const float4*)(s + i * 64))[t]; };
    float2 scale[2][2][GROUPS];
    int c[2][GROUPS][4], sum[2][GROUPS][4];
    float4 x[2];
    const auto scale_sums = [&](int i) {
        const int kb = i / NT, n = i % NT, at = i & 1;
#pragma unroll
        for (int h = 0; h < GROUPS; h++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const ActScale scales = j & 1 ? ActScale{x[at].z, x[at].w} : ActScale{x[at].x, x[at].y};
                acc[stripe][n][j] = add_block<F>(acc[stripe][n][j], c[at][h][j], scale[kb][j >> 1][h], scales, sum[at][h][j & 1]);
            }
    };
    uint2 b = b_of(0);
#pragma unroll
    for (int i = 0; i < 2 * NT; i++) {
        const int kb = i / NT;
        const uint2 now = b;
        if (i + 1 < 2 * NT) b = b_of(i + 1);
        x[i & 1] = scales_of(i);
        multiply_block<F, true>(c[i & 1], w, kb, now);
        if constexpr (F == Q2_K) sums_of_groups(sum[i & 1], now);
        if (i % NT == 0) {
#pragma unroll
            for (int r = 0; r < 2; r++)
#pragma unroll
                for (int h = 0; h < GROUPS; h++) scale[kb][r][h] = scale_of<F>(w, kb, r, h);
        }
        if (i > 0) scale_sums(i - 1);
    }
    scale_sums(2 * NT - 1);
}
