// Products of generated rows with Q5_1 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q5_1, q5_1)
