// Products of generated rows with Q4_0 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q4_0, q4_0)
