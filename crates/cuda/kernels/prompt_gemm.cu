// The products of the prompt rows: entry points by main loop and tile. Which tile is taken does not change a bit of the result.
#include "prompt_gemm_mma.cuh"

extern __shared__ __align__(1024) char shared_memory[];

// Blocks of the largest tile that an SM's shared memory holds.
#if __CUDA_ARCH__ == 900
#define LARGE_BLOCKS 2
#else
#define LARGE_BLOCKS 1
#endif

#define PROMPT_GEMM_MMA(BM, STAGES, BLOCKS)                                                                           \
    extern "C" __global__ void __launch_bounds__(2 * BM, BLOCKS) prompt_gemm_mma_##BM(const PromptGemmArgs args) { \
        let_next_start();                                                                                             \
        wait_for_previous();                                                                                          \
        prompt_gemm_mma<BM, STAGES>(args, shared_memory);                                                             \
    }

PROMPT_GEMM_MMA(32, 3, 1)
PROMPT_GEMM_MMA(64, 3, 1)
PROMPT_GEMM_MMA(128, 3, LARGE_BLOCKS)
