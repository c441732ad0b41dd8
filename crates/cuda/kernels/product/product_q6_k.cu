// Products of generated rows with Q6_K weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q6_K, q6_k)
