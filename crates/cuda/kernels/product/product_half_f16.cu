// Products of generated rows with F16 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(F16, f16)
