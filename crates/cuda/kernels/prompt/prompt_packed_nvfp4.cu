// Products of prompt rows with NVFP4 weights, unpacked in registers.
#include "weights/format_table.cuh"
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(NVFP4, nvfp4)
