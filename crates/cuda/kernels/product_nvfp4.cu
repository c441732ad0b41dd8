// Products of generated rows with NVFP4 weights.
#include "format_table.cuh"
#include "product_kernels.cuh"

PRODUCTS(NVFP4, nvfp4)
