// Two layouts beside those of format.cuh, in a file of their own so that other formats' kernels do not depend on them: 4 bits a weight and a
// scale for each 16.
//
// TABLE16 holds the formats with grids and the ternary ones. Whatever bits a weight has in the file, here it has 4 that pick one of 16
// signed bytes. These stand in each unit, after the scales and plus 128, so tiles of several such formats may share a matrix. A scale is a whole multiple
// of the block's own, which the tail plane has; a byte is 8 times what the multiple multiplies.
//
// NVFP4 has what the file has: E2M1 under E4M3, and the scale of the whole matrix beside each tile.
#pragma once

#include "weights/format.cuh"

enum : int {
    IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ1_S = 19, IQ3_S = 21, IQ2_S = 22, IQ1_M = 29, TQ1_0 = 34, TQ2_0 = 35, NVFP4 = 40,
    TABLE16 = 256,  // no ggml type
};

// 8 B for one g: the byte of (r, kb, h), an E4M3 float without a sign.
constexpr Scales SCALES_E4M3_16 = Scales(SCALES_U4_MIN16 + 1);

template <Scales KIND, bool IS_E2M1, int SHIFT_BY, int TABLE_BYTES, int TAIL_BYTES, int TILE_SCALE_BYTES>
struct GroupedNibbles {
    static constexpr bool NIBBLES = true, TABLE = true, TWO_BITS = false, ONE_BIT = false, BYTES = false, FLOAT = false;
    static constexpr bool HAS_MIN = false, GROUPS_OF_16 = true, E2M1 = IS_E2M1;
    static constexpr Scales SCALES = KIND;
    static constexpr int SHIFT = SHIFT_BY, SCALE_STRIDE = 8, TAIL_STRIDE = TAIL_BYTES / 8;
    static constexpr int AT_2 = 512, AT_1 = 512, AT_8 = 512, AT_SCALES = 512, AT_TABLE = AT_SCALES + 8 * SCALE_STRIDE;
    static constexpr int UNIT = AT_TABLE + TABLE_BYTES, TAIL = TAIL_BYTES, TILE_SCALE = TILE_SCALE_BYTES;

    __host__ __device__ static size_t tile_bytes(int n_unit) { return (size_t)n_unit * UNIT + (size_t)(n_unit / 4) * TAIL + TILE_SCALE; }
    __host__ __device__ static size_t unit_at(int u) { return (size_t)u * UNIT + (size_t)(u >> 2) * TAIL; }
    __host__ __device__ static size_t tail_at(int u) { return unit_at(u | 3) + UNIT; }
};
template <> struct Layout<TABLE16> : GroupedNibbles<SCALES_I8_16, false, 3, 16, 32, 0> {};
template <> struct Layout<NVFP4> : GroupedNibbles<SCALES_E4M3_16, true, 2, 0, 0, 32> {};

template <> struct Unit<TABLE16> {
    uint4 nibbles, table, scales;
    uint2 tail;
};

template <> __device__ __forceinline__ void read_integers<TABLE16, true>(Unit<TABLE16>& out, const uint8_t* p, int lane) {
    out.nibbles = load_once((const uint4*)p + lane);
    out.table = *(const uint4*)(p + Layout<TABLE16>::AT_TABLE);
}
template <> __device__ __forceinline__ void read_integers<TABLE16, false>(Unit<TABLE16>& out, const uint8_t* p, int lane) {
    out.nibbles = ((const uint4*)p)[lane];
    out.table = *(const uint4*)(p + Layout<TABLE16>::AT_TABLE);
}

template <> __device__ __forceinline__ uint32_t integers<TABLE16, false>(const Unit<TABLE16>& unit, int kb, int r, int h) {
    return picked(unit.table, nibbles_of(unit, kb, r), h) ^ 0x80808080u;
}

// The exponent and the mantissa of an E4M3 are at the bottom of a float32's, whose bias is 120 more; subnormals come out as well.
template <> __device__ __forceinline__ float2 scale_of<NVFP4>(const Unit<NVFP4>& unit, int kb, int r, int h) {
    const uint32_t bits = (r == 0 ? unit.scales.x : unit.scales.y) >> (16 * kb + 8 * h) & 0x7Fu;
    return make_float2(__uint_as_float(bits << 20) * 0x1p120f, 0.0f);
}
