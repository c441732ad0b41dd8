// Products of generated rows with Q4_0 weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q4_0, q4_0)
