// What kernels of norms share.
#pragma once

#include "common.cuh"

struct NormArgs {
    float* x;               // [n_row, n_embd]; gets `parts` added
    const float* weight;    // [n_embd]; null: the rows are taken as they are
    const float* bias;      // [n_embd] or null
    const float* parts;     // [n_row * n_part, n_embd]: `residual` times each is added to x first, in order; or null
    const float* shared;    // [n_row, n_embd]: one more part of each row, the last; or null
    const float* gate;      // [n_row]: that one is multiplied by the sigmoid of this; or null
    const int32_t* source;  // [grid]: which rows of x; null: all
    __half* out;            // [grid, out_terms * n_embd], saturated; or null
    float* squares;         // [n_row, n_embd / 32]: of add_parts alone, sums of squares of the rows, which are yet to be scaled
    ActOut act;             // column = block
    int32_t n_embd;
    int32_t n_part;
    int32_t is_layer_norm;
    float eps;
    int32_t out_terms;      // 2: after the float16 of a row what they leave of its values, as float16
    float residual;
    int32_t even_then_odd;  // 1: `out`, of one term, is in the order of prompt_packed.cuh
    int32_t reserved;
};
static_assert(sizeof(NormArgs) == 144, "as in src/args.rs");

// The sum over a block of N threads; the same bits in every thread.
template <int N>
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float sums[N / 32];
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = v;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    return warp_sum(lane < N / 32 ? sums[lane] : 0.0f);
}
