// Products of generated rows with Q5_0 weights.
#include "product.cuh"

PRODUCTS(Q5_0, q5_0)
