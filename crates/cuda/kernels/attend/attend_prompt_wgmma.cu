// Attention of prompt rows on wgmma: entry points by head size.
#include "attend/attend_prompt_wgmma.cuh"

extern __shared__ __align__(1024) char shared_memory[];

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WGMMA_BODY(HD) attend_prompt_wgmma<HD>(args, shared_memory)
#else
#define WGMMA_BODY(HD) __trap()
#endif

#define ATTEND_PROMPT(HD)                                                            \
    extern "C" __global__ void __launch_bounds__(WgmmaShape<HD>::THREADS, 1)         \
        attend_prompt_wgmma_##HD(const __grid_constant__ AttendPromptTmaArgs args) { \
        WGMMA_BODY(HD);                                                              \
    }

ATTEND_PROMPT(64)
ATTEND_PROMPT(96)
ATTEND_PROMPT(128)
ATTEND_PROMPT(192)
ATTEND_PROMPT(256)
