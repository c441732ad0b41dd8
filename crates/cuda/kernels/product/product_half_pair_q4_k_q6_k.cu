// Products with weights of Q4_K and of Q6_K in float16.
#include "product/product_pair.cuh"

HALF_PAIRS(Q4_K, Q6_K, q4_k_q6_k)
