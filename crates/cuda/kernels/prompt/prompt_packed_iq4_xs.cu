// Products of prompt rows with IQ4_XS weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(IQ4_XS, iq4_xs)
