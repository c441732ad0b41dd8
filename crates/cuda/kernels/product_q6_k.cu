// Products of generated rows with Q6_K weights.
#include "product.cuh"

PRODUCTS(Q6_K, q6_k)
