// Products of generated rows with weights that are indices into tables of 16 values, in float16.
#include "product/product_half_table.cuh"
#include "product/product_half_kernels.cuh"

HALF_PRODUCTS(TABLE16, table16)
