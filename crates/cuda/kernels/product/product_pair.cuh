// Two products of the same activations with matrices of two formats in one launch: queries, keys and values, of which the values often have
// a format of their own, and too few rows to be worth a launch.
#pragma once

#include "product/product_half_kernels.cuh"
#include "product/product_kernels.cuh"

struct PairArgs {
    ProductArgs first, second;
};
static_assert(sizeof(PairArgs) == 640, "as in src/args.rs");

// The blocks of the first matrix, then those of the second, one tile each.
template <int A, int B, int P>
__device__ __forceinline__ void product_pair(const PairArgs& args) {
    const int x = blockIdx.x, n = args.first.n_tile;
    if (x < n) product_narrow<A, P, 1>(args.first, x);
    else product_narrow<B, P, 1>(args.second, x - n);
}

template <int A, int B, int P, int STAGES = half_stages<P, 1>()>
__device__ __forceinline__ void product_half_pair(const PairArgs& args) {
    const int x = blockIdx.x, n = args.first.n_tile;
    if (x < n) product_half_narrow<A, P, 1, false, STAGES>(args.first, x);
    else product_half_narrow<B, P, 1, false, STAGES>(args.second, x - n);
}

// Of more columns: the blocks of eight tiles of the first matrix, then those of the second, in clusters as product_half_wide.cuh has them.
template <int A, int B, int NT>
__device__ __forceinline__ void product_half_wide_pair(const PairArgs& args) {
    const int n = (args.first.n_tile + WARPS - 1) / WARPS, n_rank = args.first.n_part > 0 ? args.first.n_part : cluster_size();
    const int block = (blockIdx.y * (gridDim.x / n_rank) + blockIdx.x / n_rank) / gridDim.y;
    if (block < n) product_half_wide<A, NT>(args.first);
    else product_half_wide<B, NT>(args.second, n);
}

#define PAIR(WHERE, KIND, A, B, SUFFIX, P) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 3) KIND##_##SUFFIX##_c##P(const __grid_constant__ PairArgs args) { \
        WHERE(KIND<A, B, P>(args)); \
    }
#define HALF_DENSE_PAIR(A, B, SUFFIX) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 3) product_half_pair_##SUFFIX##_d8(const __grid_constant__ PairArgs args) { \
        IN_FLOAT16(product_half_pair<A, B, 8, 1>(args)); \
    }
#define HALF_WIDE_PAIR(A, B, SUFFIX, NT) \
    extern "C" __global__ void __launch_bounds__(HalfWideStage<A, NT, WARPS>::THREADS, 2) \
        product_half_pair_##SUFFIX##_n##NT(const __grid_constant__ PairArgs args) { \
        IN_FLOAT16(product_half_wide_pair<A, B, NT>(args)); \
    }
#define PAIRS(A, B, SUFFIX) \
    PAIR(IN_8_BITS, product_pair, A, B, SUFFIX, 1) \
    PAIR(IN_8_BITS, product_pair, A, B, SUFFIX, 4) \
    PAIR(IN_8_BITS, product_pair, A, B, SUFFIX, 8)
#define HALF_PAIRS(A, B, SUFFIX) \
    PAIR(IN_FLOAT16, product_half_pair, A, B, SUFFIX, 1) \
    PAIR(IN_FLOAT16, product_half_pair, A, B, SUFFIX, 8) \
    HALF_DENSE_PAIR(A, B, SUFFIX) \
    PAIR(IN_FLOAT16, product_half_pair, A, B, SUFFIX, 16) \
    HALF_WIDE_PAIR(A, B, SUFFIX, 2) \
    HALF_WIDE_PAIR(A, B, SUFFIX, 4) \
    HALF_WIDE_PAIR(A, B, SUFFIX, 8)
