// Products of generated rows with Q5_K weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q5_K, q5_k)
