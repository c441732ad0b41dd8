// Products of prompt rows with Q6_K weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q6_K, q6_k)
