// Keys and values as Q8_0: how a page of a head lies in the cache, and how 32 values become integers and a scale.
//
// The rule is `round_kv` of crates/model/src/kv.rs, bit for bit: d = max |x| / 127, q = x / d to the nearest integer, ties away from
// zero; then d is rounded to float16.
#pragma once

#include "common.cuh"

template <int HD>
struct KvQ8 {
    static constexpr int BLOCKS = HD / 32;
    // After the integers [PAGE][HD].
    static constexpr int SCALES_AT = PAGE * HD;
    static constexpr int PAGE_BYTES = PAGE * (HD + BLOCKS * 2);

    // Where the scale of a block stands: keys by position, values by block.
    static __device__ __forceinline__ int scale_at(bool is_value, int position, int block) {
        return SCALES_AT + (is_value ? block * PAGE + position : position * BLOCKS + block) * 2;
    }
};

// The same with a head size of run time.
__device__ __forceinline__ size_t page_bytes_q8(int head_dim) { return PAGE * (size_t)(head_dim + head_dim / 32 * 2); }
__device__ __forceinline__ size_t scale_at_q8(int head_dim, bool is_value, int position, int block) {
    return (size_t)PAGE * head_dim + (is_value ? block * PAGE + position : position * (head_dim / 32) + block) * 2;
}

// What is larger counts as this: its scale times 127 is still a float16.
constexpr float KV_LIMIT = 65024.0f;

struct KvBlock {
    int q;  // the lane's
    __half d;
};

// A block of 32 values, one a lane of a whole warp.
__device__ __forceinline__ KvBlock quantize_kv(float value) {
    // What is not a number becomes 0, as the comparisons of the maximum and the conversion of the quotient have it.
    value = value > KV_LIMIT ? KV_LIMIT : value < -KV_LIMIT ? -KV_LIMIT : value;
    const float d = __fdiv_rn(warp_max(fabsf(value)), 127.0f);
    const float inverse = d == 0.0f ? 0.0f : __fdiv_rn(1.0f, d);
    const float q = roundf(__fmul_rn(value, inverse));
    return {__float2int_rz(fminf(fmaxf(q, -127.0f), 127.0f)), __float2half_rn(d)};
}
