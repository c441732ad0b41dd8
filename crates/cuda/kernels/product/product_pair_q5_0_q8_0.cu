// Products with weights of Q5_0 and of Q8_0.
#include "product/product_pair.cuh"

PAIRS(Q5_0, Q8_0, q5_0_q8_0)
