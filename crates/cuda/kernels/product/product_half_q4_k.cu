// Products of generated rows with Q4_K weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q4_K, q4_k)
