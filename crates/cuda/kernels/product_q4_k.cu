// Products of generated rows with Q4_K weights.
#include "product.cuh"

PRODUCTS(Q4_K, q4_k)
