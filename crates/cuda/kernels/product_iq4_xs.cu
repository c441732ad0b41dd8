// Products of generated rows with IQ4_XS weights.
#include "product.cuh"

PRODUCTS(IQ4_XS, iq4_xs)
