// Products of generated rows with IQ4_NL weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(IQ4_NL, iq4_nl)
