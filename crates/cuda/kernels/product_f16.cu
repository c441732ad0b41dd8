// Products of generated rows with F16 weights.
#include "product.cuh"

PRODUCTS(F16, f16)
