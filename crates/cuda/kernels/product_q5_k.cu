// Products of generated rows with Q5_K weights.
#include "product.cuh"

PRODUCTS(Q5_K, q5_k)
