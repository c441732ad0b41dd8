// Products of generated rows with BF16 weights.
#include "product.cuh"

PRODUCTS(BF16, bf16)
