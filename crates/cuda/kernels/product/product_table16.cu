// Products of generated rows with weights that are indices into tables of 16 values.
#include "weights/format_table.cuh"
#include "product/product_kernels.cuh"

PRODUCTS(TABLE16, table16)
