// Products of prompt rows with Q2_K weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q2_K, q2_k)
