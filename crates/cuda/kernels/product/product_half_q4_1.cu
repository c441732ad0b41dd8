// Products of generated rows with Q4_1 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q4_1, q4_1)
