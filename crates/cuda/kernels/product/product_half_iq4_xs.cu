// Products of generated rows with IQ4_XS weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(IQ4_XS, iq4_xs)
