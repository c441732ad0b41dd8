// Products of generated rows with Q2_K weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q2_K, q2_k)
