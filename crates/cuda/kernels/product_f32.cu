// Products of generated rows with F32 weights.
#include "product.cuh"

PRODUCTS(F32, f32)
