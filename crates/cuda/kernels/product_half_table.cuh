// Products in float16 with weights that are indices into tables of 16 values (format_table.cuh).
#pragma once

#include "format_table.cuh"
#include "product_half.cuh"

// An E4M3 float without a sign is in the middle of a float16 divided by 2^8; subnormals as well.
template <> __device__ __forceinline__ HalfScales half_scales<NVFP4>(const Unit<NVFP4>& unit, int kb, int r) {
    const uint32_t bytes = r == 0 ? unit.scales.x : unit.scales.y;
    const uint32_t halves = __byte_perm(bytes, 0, kb == 0 ? 0x4140 : 0x4342) << 7 & 0x3F803F80u;
    return HalfScales{__hmul2_rn(halves_of(halves), twice(256.0f)), twice(0.0f)};
}
