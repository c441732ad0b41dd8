// Products of prompt rows with weights that are indices into tables of 16 values, unpacked in registers.
#include "weights/format_table.cuh"
#include "prompt/prompt_packed_kernels.cuh"

PACKED_PRODUCTS(TABLE16, table16)
