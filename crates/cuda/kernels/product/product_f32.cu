// Products of generated rows with F32 weights.
#include "product/product_float.cuh"

FLOAT_PRODUCTS(F32, f32)
