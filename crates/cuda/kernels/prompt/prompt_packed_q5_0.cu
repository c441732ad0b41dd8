// Products of prompt rows with Q5_0 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q5_0, q5_0)
