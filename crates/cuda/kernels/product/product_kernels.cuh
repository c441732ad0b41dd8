// The kernels of one format of integers.
#pragma once

#include "product/product_narrow.cuh"
#include "product/product_wide.cuh"

// Never launched where products are in float16 (src/launch/product.rs), so there is no code for that.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(WITH_8_BITS)
#define IN_8_BITS(...) __trap()
#else
#define IN_8_BITS(...) __VA_ARGS__
#endif

#define NARROW(FORMAT, SUFFIX, P, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, MT == 1 || P == 4 ? 3 : P == 8 ? 2 : 4) \
        product_##SUFFIX##_c##P##_m##MT(const __grid_constant__ ProductArgs args) { \
        IN_8_BITS(product_narrow<FORMAT, P, MT>(args, blockIdx.x)); \
    }
#define WIDE(FORMAT, SUFFIX, NT, WT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) \
        product_##SUFFIX##_n##NT##_w##WT(const __grid_constant__ ProductArgs args) { \
        IN_8_BITS(product_wide<FORMAT, NT, WT>(args)); \
    }
// For up to 1, 4 and 8 columns (c), 16 and 32 (n times 8); for few and for many tiles.
#define PRODUCTS(FORMAT, SUFFIX) \
    NARROW(FORMAT, SUFFIX, 1, 1) \
    NARROW(FORMAT, SUFFIX, 1, 4) \
    NARROW(FORMAT, SUFFIX, 4, 1) \
    NARROW(FORMAT, SUFFIX, 4, 4) \
    NARROW(FORMAT, SUFFIX, 8, 1) \
    NARROW(FORMAT, SUFFIX, 8, 4) \
    WIDE(FORMAT, SUFFIX, 2, 2) \
    WIDE(FORMAT, SUFFIX, 2, 8) \
    WIDE(FORMAT, SUFFIX, 4, 2) \
    WIDE(FORMAT, SUFFIX, 4, 8)
