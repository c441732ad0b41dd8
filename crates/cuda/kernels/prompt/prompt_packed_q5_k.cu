// Products of prompt rows with Q5_K weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(Q5_K, q5_k)
