// Products of generated rows with Q3_K weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q3_K, q3_k)
