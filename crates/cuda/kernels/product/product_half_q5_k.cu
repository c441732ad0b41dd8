// Products of generated rows with Q5_K weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(Q5_K, q5_k)
