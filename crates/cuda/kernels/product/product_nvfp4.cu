// Products of generated rows with NVFP4 weights.
#include "weights/format_table.cuh"
#include "product/product_kernels.cuh"

PRODUCTS(NVFP4, nvfp4)
