// Products of prompt rows with IQ4_NL weights, unpacked in registers.
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(IQ4_NL, iq4_nl)
