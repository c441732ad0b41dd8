// Products of generated rows with F16 weights.
#include "product/product_float.cuh"

FLOAT_PRODUCTS(F16, f16)
