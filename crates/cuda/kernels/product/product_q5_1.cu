// Products of generated rows with Q5_1 weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q5_1, q5_1)
