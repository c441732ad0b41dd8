// Products of generated rows with MXFP4 weights.
#include "product/product_kernels.cuh"

PRODUCTS(MXFP4, mxfp4)
