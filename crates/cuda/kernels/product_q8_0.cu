// Products of generated rows with Q8_0 weights.
#include "product.cuh"

PRODUCTS(Q8_0, q8_0)
