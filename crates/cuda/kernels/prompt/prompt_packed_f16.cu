// Products of prompt rows with F16 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(F16, f16)
