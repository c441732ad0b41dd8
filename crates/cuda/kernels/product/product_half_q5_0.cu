// Products of generated rows with Q5_0 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q5_0, q5_0)
