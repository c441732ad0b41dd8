// The blocks that are brought into the layouts of format_table.cuh; see repack.cu for what each has.
#pragma once

#include "weights/format_table.cuh"

// code(b, i, points): which of the table's 16 values weight i is. `points` is the format's grid: by point, 8 levels of 2 bits or 4 of 4.
// scale(b, i): the multiple, 2 s + 1.
__device__ __forceinline__ int level_of_8(const float* points, int point, int i) { return (int)points[point] >> (2 * (i % 8)) & 3; }
__device__ __forceinline__ int level_of_4(const float* points, int point, int i) { return (int)points[point] >> (4 * (i % 4)) & 7; }
// Seven signs in 7 bits; the eighth makes the number of negative ones even.
__device__ __forceinline__ int even_sign(uint32_t bits, int i) { return i % 8 < 7 ? bits >> (i % 8) & 1 : __popc(bits & 0x7F) & 1; }
__device__ __forceinline__ uint32_t u32(const uint8_t* p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }

template <> struct Block<IQ1_S> {
    static constexpr int N = 256, BYTES = 50;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const int p = i / 8, high = u16(b + 34 + i / 32 * 2);
        return level_of_8(points, b[2 + p] | (high >> (3 * (p % 4)) & 7) << 8, i) << 1 | high >> 15;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[35 + i / 32 * 2] >> 4 & 7) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<IQ1_M> {
    static constexpr int N = 256, BYTES = 56;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const int p = i / 8, high = b[32 + p / 2] >> (4 * (p % 2));
        return level_of_8(points, b[p] | (high & 7) << 8, i) << 1 | (high >> 3 & 1);
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (u16(b + 48 + i / 64 * 2) >> (3 * (i / 16 % 4)) & 7) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) {
        return b[49] >> 4 | (b[51] & 0xF0) | (b[53] >> 4) << 8 | (uint32_t)(b[55] & 0xF0) << 8;
    }
};
template <> struct Block<IQ2_XXS> {
    static constexpr int N = 256, BYTES = 66;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const uint8_t* group = b + 2 + i / 32 * 8;
        const int p = i / 8 % 4;
        return level_of_8(points, group[p], i) | even_sign(u32(group + 4) >> (7 * p), i) << 2;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[2 + i / 32 * 8 + 7] >> 4) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<IQ2_XS> {
    static constexpr int N = 256, BYTES = 74;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const int q = u16(b + 2 + i / 8 * 2);
        return level_of_8(points, q & 511, i) | even_sign(q >> 9, i) << 2;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[66 + i / 32] >> (i / 16 % 2 * 4) & 15) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<IQ2_S> {
    static constexpr int N = 256, BYTES = 82;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const int p = i / 8, high = b[66 + p / 4] >> (2 * (p % 4)) & 3;
        return level_of_8(points, b[2 + p] | high << 8, i) | (b[34 + p] >> (i % 8) & 1) << 2;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[74 + i / 32] >> (i / 16 % 2 * 4) & 15) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<IQ3_XXS> {
    static constexpr int N = 256, BYTES = 98;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const uint32_t signs = u32(b + 66 + i / 32 * 4) >> (7 * (i / 8 % 4));
        return level_of_4(points, b[2 + i / 4], i) | even_sign(signs, i) << 3;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[66 + i / 32 * 4 + 3] >> 4) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<IQ3_S> {
    static constexpr int N = 256, BYTES = 110;
    __device__ static int code(const uint8_t* b, int i, const float* points) {
        const int p = i / 4, ninth = b[66 + p / 8] >> (p % 8) & 1;
        return level_of_4(points, b[2 + p] | ninth << 8, i) | (b[74 + i / 8] >> (i % 8) & 1) << 3;
    }
    __device__ static int scale(const uint8_t* b, int i) { return 2 * (b[106 + i / 64] >> (i / 32 % 2 * 4) & 15) + 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};
template <> struct Block<TQ1_0> {
    static constexpr int N = 256, BYTES = 54;
    __device__ static int code(const uint8_t* b, int i, const float*) {
        // Runs of 32, 16 and 4 bytes; digit n of byte m is weight n * run + m of its run.
        const int at = i < 160 ? i % 32 : i < 240 ? 32 + i % 16 : 48 + i % 4;
        const int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
        uint32_t q = b[at];
        for (int n = 0; n < digit; n++) q = q * 3 & 255;
        return q * 3 >> 8;
    }
    __device__ static int scale(const uint8_t*, int) { return 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b + 52); }
};
template <> struct Block<TQ2_0> {
    static constexpr int N = 256, BYTES = 66;
    __device__ static int code(const uint8_t* b, int i, const float*) { return b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }
    __device__ static int scale(const uint8_t*, int) { return 1; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b + 64); }
};
template <> struct Block<NVFP4> {
    static constexpr int N = 64, BYTES = 36;
    __device__ static int code(const uint8_t* b, int i) {
        const int byte = b[4 + i / 16 * 8 + i % 8];
        return i % 16 < 8 ? byte & 15 : byte >> 4;
    }
    // ggml reads the standard's NaN as 0.
    __device__ static int scale(const uint8_t* b, int i) { return b[i / 16] == 0x7F ? 0 : b[i / 16] & 0x7F; }
};
