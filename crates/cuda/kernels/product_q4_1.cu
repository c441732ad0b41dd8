// Products of generated rows with Q4_1 weights.
#include "product.cuh"

PRODUCTS(Q4_1, q4_1)
