// Products of generated rows with NVFP4 weights in float16.
#include "product/product_half_table.cuh"
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(NVFP4, nvfp4)
