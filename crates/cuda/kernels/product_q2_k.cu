// Products of generated rows with Q2_K weights.
#include "product.cuh"

PRODUCTS(Q2_K, q2_k)
