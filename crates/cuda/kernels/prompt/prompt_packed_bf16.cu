// Products of prompt rows with BF16 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(BF16, bf16)
