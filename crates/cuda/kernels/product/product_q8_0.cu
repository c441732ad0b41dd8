// Products of generated rows with Q8_0 weights.
#include "product/product_kernels.cuh"

PRODUCTS(Q8_0, q8_0)
