// Attention of prompt rows on wgmma: entry points by head size.
#include "attend/attend_prompt_wgmma.cuh"

extern __shared__ __align__(1024) char shared_memory[];

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WGMMA_BODY(HD, FEW) attend_prompt_wgmma<HD, FEW>(args, shared_memory)
#else
#define WGMMA_BODY(HD, FEW) __trap()
#endif

#define ENTRY(NAME, HD, FEW)                                                          \
    extern "C" __global__ void __launch_bounds__(WgmmaShape<HD, FEW>::THREADS, 1)     \
        attend_prompt_wgmma##NAME(const __grid_constant__ AttendPromptTmaArgs args) { \
        WGMMA_BODY(HD, FEW);                                                          \
    }

#define ATTEND_PROMPT(HD)   \
    ENTRY(_##HD, HD, false) \
    ENTRY(_few_##HD, HD, true)

ATTEND_PROMPT(64)
ATTEND_PROMPT(96)
ATTEND_PROMPT(128)
ATTEND_PROMPT(192)
ATTEND_PROMPT(256)
