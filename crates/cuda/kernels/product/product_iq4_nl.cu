// Products of generated rows with IQ4_NL weights.
#include "product/product_kernels.cuh"

PRODUCTS(IQ4_NL, iq4_nl)
