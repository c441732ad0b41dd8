// The products of the prompt rows: entry points by main loop, epilogue and tile. Which tile is taken does not change a bit of the
// result. An epilogue each, as all in one kernel are more instructions than the instruction caches hold.
#include "prompt/prompt_gemm_mma.cuh"
#include "prompt/prompt_gemm_wgmma.cuh"

extern __shared__ __align__(1024) char shared_memory[];

#define PROMPT_MMA(NAME, EPILOGUE, BM)                                                                         \
    extern "C" __global__ void __launch_bounds__(2 * BM) prompt_gemm_##NAME##_mma_##BM(const PromptGemmArgs args) { \
        wait_for_previous();                                                                                   \
        let_next_start();                                                                                      \
        prompt_gemm_mma<EPILOGUE, BM, 3>(args, shared_memory);                                                 \
    }

#define PROMPT_MMA_TILES(NAME, EPILOGUE) \
    PROMPT_MMA(NAME, EPILOGUE, 32)       \
    PROMPT_MMA(NAME, EPILOGUE, 64)       \
    PROMPT_MMA(NAME, EPILOGUE, 128)

PROMPT_MMA_TILES(store, PROMPT_STORE)
PROMPT_MMA_TILES(residual, PROMPT_RESIDUAL)
PROMPT_MMA_TILES(weighted, PROMPT_WEIGHTED)
PROMPT_MMA_TILES(gated, PROMPT_GATED)
PROMPT_MMA_TILES(plain, PROMPT_PLAIN)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WGMMA_BODY(...) prompt_gemm_wgmma<__VA_ARGS__>(args, shared_memory)
#else
#define WGMMA_BODY(...) __trap()
#endif

// The widest tile needs nearly all registers, so its producer is a warpgroup of its own that leaves registers to the others (ALONE). The
// producer of other tiles is one warp, and the registers leave room for blocks that unpack the next weights meanwhile: for a warp in
// each quarter of a multiprocessor, one of which has a warp more than the others.
#define PROMPT_WGMMA(NAME, EPILOGUE, TILE, BM, BN, STAGES, BOUNDS, ALONE)                   \
    extern "C" __global__ void BOUNDS                                                     \
        prompt_gemm_##NAME##_wgmma_##TILE(const __grid_constant__ PromptGemmTmaArgs args) { \
        WGMMA_BODY(EPILOGUE, BM, BN, STAGES, ALONE);                                        \
    }

#define PROMPT_WGMMA_TILES(NAME, EPILOGUE)                                                    \
    PROMPT_WGMMA(NAME, EPILOGUE, 128x256, 128, 256, 4, __launch_bounds__(384, 1), true)   \
    PROMPT_WGMMA(NAME, EPILOGUE, 128x128, 128, 128, 6, __maxnreg__(128), false)           \
    PROMPT_WGMMA(NAME, EPILOGUE, 64x256, 64, 256, 5, __maxnreg__(128), false)             \
    PROMPT_WGMMA(NAME, EPILOGUE, 64x128, 64, 128, 4, __maxnreg__(88), false)

PROMPT_WGMMA_TILES(store, PROMPT_STORE)
PROMPT_WGMMA_TILES(residual, PROMPT_RESIDUAL)
PROMPT_WGMMA_TILES(weighted, PROMPT_WEIGHTED)
PROMPT_WGMMA_TILES(gated, PROMPT_GATED)
PROMPT_WGMMA_TILES(plain, PROMPT_PLAIN)
