// Products in float16 with weights that are indices into tables of 16 values (format_table.cuh).
#pragma once

#include "weights/format_table.cuh"
#include "product/product_half.cuh"

// E2M1 are divided by 2^14, and scales of up to 448 times 2^7 are float16, so weights are divided by 2^7; they are exact.
template <>
constexpr int WEIGHT_SHIFT<NVFP4> = 7;

// An E4M3 float without a sign is in the middle of a float16 divided by 2^8; subnormals as well.
template <> __device__ __forceinline__ void half_weights<NVFP4>(uint32_t (&a)[2][4], const Unit<NVFP4>& unit, int kb) {
    __half2 factor[2];  // of both halves
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t halves = __byte_perm(r == 0 ? unit.scales.x : unit.scales.y, 0, kb == 0 ? 0x4140 : 0x4342) << 7 & 0x3F803F80u;
        factor[r] = __hmul2_rn(halves_of(halves), twice(32768.0f));
    }
    e2m1_weights(a, unit, kb, [&](int r, int h) { return h == 0 ? __low2half2(factor[r]) : __high2half2(factor[r]); });
}
