// Products of prompt rows with MXFP4 weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(MXFP4, mxfp4)
