// Attention of prompt rows with operands of float16: entry points by head size.
#include "attend/attend_prompt.cuh"

#define ATTEND_PROMPT(HD)                                                                                          \
    extern "C" __global__ void __launch_bounds__(N_WARP<HD, false> * 32)                                          \
        attend_prompt_##HD(const __grid_constant__ AttendPromptArgs args) {                                              \
        attend_prompt<HD, false>(args);                                                                          \
    }

ATTEND_PROMPT(32)
ATTEND_PROMPT(64)
ATTEND_PROMPT(96)
ATTEND_PROMPT(128)
ATTEND_PROMPT(192)
ATTEND_PROMPT(256)
