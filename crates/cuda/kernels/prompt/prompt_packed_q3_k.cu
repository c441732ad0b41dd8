// Products of prompt rows with Q3_K weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q3_K, q3_k)
