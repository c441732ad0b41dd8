// The kernels of one format whose weights the products of prompt rows unpack in registers, by epilogue and rows of weights of a tile.
#pragma once

#include "prompt/prompt_packed.cuh"

extern __shared__ __align__(1024) char shared_memory[];

// Never launched elsewhere, so there is no code for that.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PACKED_BODY(...) prompt_packed<__VA_ARGS__>(args, shared_memory)
#else
#define PACKED_BODY(...) __trap()
#endif

#define PACKED_PRODUCT(FORMAT, SUFFIX, NAME, EPILOGUE, SIZE, GROUPS)                            \
    extern "C" __global__ void                                                                  \
        __launch_bounds__(PackedStage<FORMAT, GROUPS>::THREADS, PackedStage<FORMAT, GROUPS>::BLOCKS) \
            prompt_packed_##SUFFIX##_##NAME##SIZE(const __grid_constant__ PromptPackedArgs args) { \
        PACKED_BODY(EPILOGUE, FORMAT, GROUPS);                                                  \
    }
#define PACKED_SIZES(FORMAT, SUFFIX, NAME, EPILOGUE)          \
    PACKED_PRODUCT(FORMAT, SUFFIX, NAME, EPILOGUE, _192, 3)   \
    PACKED_PRODUCT(FORMAT, SUFFIX, NAME, EPILOGUE, _128, 2)   \
    PACKED_PRODUCT(FORMAT, SUFFIX, NAME, EPILOGUE, _64, 1)
#define PACKED_PRODUCTS(FORMAT, SUFFIX)                       \
    PACKED_PRODUCT(FORMAT, SUFFIX, weighted, PROMPT_WEIGHTED, _192, 3) \
    PACKED_SIZES(FORMAT, SUFFIX, gated, PROMPT_GATED)         \
    PACKED_SIZES(FORMAT, SUFFIX, store, PROMPT_STORE)         \
    PACKED_SIZES(FORMAT, SUFFIX, residual, PROMPT_RESIDUAL)
