// Products of generated rows with BF16 weights.
#include "product/product_float.cuh"

FLOAT_PRODUCTS(BF16, bf16)
