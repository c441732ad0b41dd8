// Products of prompt rows with Q4_K weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q4_K, q4_k)
