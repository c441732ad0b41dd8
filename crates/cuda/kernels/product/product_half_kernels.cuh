// The kernels of one format of integers whose products are in float16.
#pragma once

#include "product/product_half_expert.cuh"
#include "product/product_half_narrow.cuh"
#include "product/product_half_wide.cuh"

// Never launched where products are of 8-bit activations (src/launch/product.rs), so there is no code for that.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define IN_FLOAT16(...) __VA_ARGS__
#else
#define IN_FLOAT16(...) __trap()
#endif

#define HALF_NARROW(FORMAT, SUFFIX, P, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, MT == 1 || P > 1 ? 3 : 4) \
        product_half_##SUFFIX##_c##P##_m##MT(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_narrow<FORMAT, P, MT>(args, blockIdx.x)); \
    }
// With one quad of a warp in shared memory, so that more blocks have room.
#define HALF_DENSE(FORMAT, SUFFIX) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 3) product_half_##SUFFIX##_d8_m1(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_narrow<FORMAT, 8, 1, false, 1>(args, blockIdx.x)); \
    }
#define HALF_EXPERT_OF_ONE(FORMAT, SUFFIX, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, MT <= 2 ? 3 : 4) \
        product_half_##SUFFIX##_x_m##MT(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_narrow<FORMAT, 1, MT, true>(args, blockIdx.x)); \
    }
#define HALF_WIDE(FORMAT, SUFFIX, NT) \
    extern "C" __global__ void __launch_bounds__(HalfWideStage<FORMAT, NT, WARPS>::THREADS, 2) \
        product_half_##SUFFIX##_n##NT(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_wide<FORMAT, NT>(args)); \
    }
#define HALF_WIDER(FORMAT, SUFFIX, NT) \
    extern "C" __global__ void __launch_bounds__(HalfWideStage<FORMAT, NT, 2 * WARPS>::THREADS, 1) \
        product_half_##SUFFIX##_n##NT##_w(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_wide<FORMAT, NT, 2 * WARPS>(args)); \
    }
#define HALF_EXPERT(FORMAT, SUFFIX, NT) \
    extern "C" __global__ void __launch_bounds__((WARPS + 1) * 32, 3) product_half_##SUFFIX##_e##NT(const __grid_constant__ ProductArgs args) { \
        IN_FLOAT16(product_half_expert<FORMAT, NT>(args)); \
    }
// For 1 column and for 8 or 16 at a time (c; d: in as many blocks as have room), also of several tiles; for up to 8, 16, 32 and 64 (n times 8; w: in blocks of 16 tiles);
// of experts that one row (x) or several may have chosen, for up to 8 and 16 at a time (e times 8).
#define HALF_PRODUCTS(FORMAT, SUFFIX) \
    HALF_NARROW(FORMAT, SUFFIX, 1, 1) \
    HALF_NARROW(FORMAT, SUFFIX, 1, 2) \
    HALF_NARROW(FORMAT, SUFFIX, 1, 4) \
    HALF_NARROW(FORMAT, SUFFIX, 8, 1) \
    HALF_NARROW(FORMAT, SUFFIX, 8, 2) \
    HALF_DENSE(FORMAT, SUFFIX) \
    HALF_NARROW(FORMAT, SUFFIX, 16, 1) \
    HALF_NARROW(FORMAT, SUFFIX, 16, 2) \
    HALF_EXPERT_OF_ONE(FORMAT, SUFFIX, 1) \
    HALF_EXPERT_OF_ONE(FORMAT, SUFFIX, 2) \
    HALF_EXPERT_OF_ONE(FORMAT, SUFFIX, 4) \
    HALF_WIDE(FORMAT, SUFFIX, 1) \
    HALF_WIDE(FORMAT, SUFFIX, 2) \
    HALF_WIDE(FORMAT, SUFFIX, 4) \
    HALF_WIDE(FORMAT, SUFFIX, 8) \
    HALF_WIDER(FORMAT, SUFFIX, 8) \
    HALF_EXPERT(FORMAT, SUFFIX, 1) \
    HALF_EXPERT(FORMAT, SUFFIX, 2)
