// Products of generated rows with IQ4_XS weights.
#include "product/product_kernels.cuh"

PRODUCTS(IQ4_XS, iq4_xs)
