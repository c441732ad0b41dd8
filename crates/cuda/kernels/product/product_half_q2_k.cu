// Products of generated rows with Q2_K weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q2_K, q2_k)
