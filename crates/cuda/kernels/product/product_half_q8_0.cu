// Products of generated rows with Q8_0 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q8_0, q8_0)
