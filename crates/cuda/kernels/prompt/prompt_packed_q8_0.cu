// Products of prompt rows with Q8_0 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q8_0, q8_0)
