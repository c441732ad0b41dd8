// Products of generated rows with BF16 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(BF16, bf16)
