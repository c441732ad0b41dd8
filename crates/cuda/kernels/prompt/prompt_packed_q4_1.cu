// Products of prompt rows with Q4_1 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q4_1, q4_1)
