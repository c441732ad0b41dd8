// Products of prompt rows with Q5_1 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q5_1, q5_1)
