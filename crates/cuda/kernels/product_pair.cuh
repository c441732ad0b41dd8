// Two products of the same activations with matrices of two formats in one launch: queries, keys and values, of which the values often have
// a format of their own, and too few rows to be worth a launch.
#pragma once

#include "product_narrow.cuh"

struct PairArgs {
    ProductArgs first, second;
};
static_assert(sizeof(PairArgs) == 560, "as in src/args.rs");

// The blocks of the first matrix, then those of the second, one tile each.
template <int A, int B, int P>
__device__ __forceinline__ void product_pair(const PairArgs& args) {
    const int x = blockIdx.x, n = args.first.n_tile;
    if (x < n) product_narrow<A, P, 1>(args.first, x);
    else product_narrow<B, P, 1>(args.second, x - n);
}

#define PAIR(A, B, SUFFIX, P) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 3) product_pair_##SUFFIX##_c##P(const __grid_constant__ PairArgs args) { \
        product_pair<A, B, P>(args); \
    }
#define PAIRS(A, B, SUFFIX) \
    PAIR(A, B, SUFFIX, 1) \
    PAIR(A, B, SUFFIX, 4) \
    PAIR(A, B, SUFFIX, 8)
