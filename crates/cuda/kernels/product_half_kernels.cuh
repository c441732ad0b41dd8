// The kernels of one format of integers whose products are in float16.
#pragma once

#include "product_half_narrow.cuh"
#include "product_half_wide.cuh"

#define HALF_NARROW(FORMAT, SUFFIX, P, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, MT == 1 ? 3 : 4) \
        product_half_##SUFFIX##_c##P##_m##MT(const __grid_constant__ ProductArgs args) { \
        product_half_narrow<FORMAT, P, MT>(args, blockIdx.x); \
    }
#define HALF_WIDE(FORMAT, SUFFIX, NT) \
    extern "C" __global__ void __launch_bounds__((WARPS + 1) * 32, 2) product_half_##SUFFIX##_n##NT(const __grid_constant__ ProductArgs args) { \
        product_half_wide<FORMAT, NT>(args); \
    }
// For 1 and up to 8 columns (c), for one column also of several tiles; for up to 8, 16, 32 and 64 (n times 8).
#define HALF_PRODUCTS(FORMAT, SUFFIX) \
    HALF_NARROW(FORMAT, SUFFIX, 1, 1) \
    HALF_NARROW(FORMAT, SUFFIX, 1, 4) \
    HALF_NARROW(FORMAT, SUFFIX, 8, 1) \
    HALF_WIDE(FORMAT, SUFFIX, 1) \
    HALF_WIDE(FORMAT, SUFFIX, 2) \
    HALF_WIDE(FORMAT, SUFFIX, 4) \
    HALF_WIDE(FORMAT, SUFFIX, 8)
