// Products of generated rows with MXFP4 weights in float16.
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(MXFP4, mxfp4)
