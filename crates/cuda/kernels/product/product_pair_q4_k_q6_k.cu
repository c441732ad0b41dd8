// Products with weights of Q4_K and of Q6_K.
#include "product/product_pair.cuh"

PAIRS(Q4_K, Q6_K, q4_k_q6_k)
