// Products of generated rows with MXFP4 weights.
#include "product_kernels.cuh"

PRODUCTS(MXFP4, mxfp4)
