// Products of generated rows with Q4_1 weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q4_1, q4_1)
