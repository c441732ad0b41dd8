// Products of generated rows with Q3_K weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q3_K, q3_k)
