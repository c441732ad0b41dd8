// Products of prompt rows with Q4_0 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q4_0, q4_0)
