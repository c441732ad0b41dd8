// Products of generated rows with Q6_K weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q6_K, q6_k)
