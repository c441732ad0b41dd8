// Products of generated rows with Q4_0 weights.
#include "product.cuh"

PRODUCTS(Q4_0, q4_0)
