// Products of generated rows with MXFP4 weights.
#include "product.cuh"

PRODUCTS(MXFP4, mxfp4)
