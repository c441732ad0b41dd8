// Products of generated rows with Q5_0 weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q5_0, q5_0)
