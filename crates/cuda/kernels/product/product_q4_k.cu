// Products of generated rows with Q4_K weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q4_K, q4_k)
