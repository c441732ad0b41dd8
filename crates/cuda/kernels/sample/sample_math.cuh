// The sampler's arithmetic: weights, rank keys and shares, bit for bit as crates/model/src/sampling. Plain functions of their
// arguments that also compile as C++ (with contraction of floating point off), so that they can be checked without a GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SAMPLE_FN __host__ __device__ __forceinline__
#else
#define SAMPLE_FN inline
#endif

// log2(e), the scale of temperature 1.
constexpr float SAMPLE_LOG2E = 1.44269504088896340736f;

SAMPLE_FN uint32_t bits_of(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(x);
#else
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
#endif
}

SAMPLE_FN float float_of(uint32_t u) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(u);
#else
    float x;
    memcpy(&x, &u, 4);
    return x;
#endif
}

// The nearest integer, ties to even, for 0 <= x <= 2^41.
SAMPLE_FN uint64_t round_even(float x) {
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000)
    // One instruction of the conversion pipe, beside the additions and multiplications; slow on the other architectures.
    return __float2ull_rn(x);
#else
    // Below 2^23 adding 2^23 rounds to an integer in the sum's low bits; from there on x is an integer.
    const uint32_t u = bits_of(x);
    if (x < 8388608.0f) return bits_of(x + 8388608.0f) - 0x4B000000u;
    return (uint64_t)((u & 0x7FFFFFu) | 0x800000u) << ((u >> 23) - 150);
#endif
}

// `round(2^40 * 2^e)`, ties to even, for e <= 0. The file is compiled without contraction: each operation rounds once.
SAMPLE_FN uint64_t token_weight(float e) {
    e = e > -126.0f ? e : -126.0f;
    const float rounded = e + 12582912.0f;
    const float f = e - (rounded - 12582912.0f);
    float p = 0.000015252734f;
    p = p * f + 0.0001540353f;
    p = p * f + 0.0013333558f;
    p = p * f + 0.009618129f;
    p = p * f + 0.05550411f;
    p = p * f + 0.2402265f;
    p = p * f + 0.693147180559945309417f;
    p = p * f + 1.0f;
    // 2^(n+40) instead of 2^n, n in -126..0: scaling by a power of two is exact, but where 2^n * p were subnormal; there both round to 0.
    const uint32_t n = bits_of(rounded) - 0x4B400000u;
    return round_even(float_of((n + 167u) << 23) * p);
}

// The exponent whose weight a logit has.
SAMPLE_FN float token_exponent(float z, float max, float scale) { return (z - max) * scale; }

// Greater for a larger logit, then for a lower id. Not for NaN.
SAMPLE_FN uint64_t rank_key(uint32_t id, float z) {
    const uint32_t u = bits_of(z + 0.0f);
    const uint32_t ordered = u >> 31 ? ~u : u | 0x80000000u;
    return (uint64_t)ordered << 32 | (uint32_t)~id;
}

SAMPLE_FN uint32_t key_id(uint64_t key) { return ~(uint32_t)key; }

SAMPLE_FN float key_logit(uint64_t key) {
    const uint32_t ordered = (uint32_t)(key >> 32);
    return float_of(ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered);
}

// `floor(a * b / 2^64)`.
SAMPLE_FN uint64_t high_product(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
    return __umul64hi(a, b);
#else
    return (uint64_t)(((unsigned __int128)a * b) >> 64);
#endif
}

// `ceil(total * fraction / 2^32)` for a fraction of at most 2^32.
SAMPLE_FN uint64_t mass_share(uint64_t total, uint64_t fraction) {
    const uint64_t low = total * fraction;
    const uint64_t floor = high_product(total, fraction) << 32 | low >> 32;
    return floor + ((uint32_t)low != 0);
}

// `trunc(-e * 2^20)`: a token's information, less the normaliser. Exact: e of a token with a weight is above -42.
SAMPLE_FN uint32_t information(float e) { return (uint32_t)(int32_t)(e * -1048576.0f); }

// `ceil((high * 2^20 + low) / total)`, where it is below 2^32.
SAMPLE_FN uint32_t mean_information(uint64_t high, uint64_t low, uint64_t total) {
    const unsigned __int128 sum = ((unsigned __int128)high << 20) + low;
    // Off by one at most, which the exact comparisons mend.
    uint64_t quotient = (uint64_t)(((double)high * 1048576.0 + (double)low) / (double)total);
    while ((unsigned __int128)quotient * total < sum) quotient++;
    while (quotient > 0 && (unsigned __int128)(quotient - 1) * total >= sum) quotient--;
    return (uint32_t)quotient;
}

// Buckets of exponents, first the likeliest: any non-decreasing function of -e keeps the rank order across buckets, since e does not
// fall with the logit. The last bucket of each takes all that lies beyond.
SAMPLE_FN uint32_t coarse_bucket(float e) { return (uint32_t)fminf(e * -8.0f, 255.0f); }
SAMPLE_FN uint32_t fine_bucket(float e) { return (uint32_t)fminf(e * -24.0f, 1023.0f); }
// Within a fine bucket.
SAMPLE_FN uint32_t finer_bucket(float e) {
    const float x = e * -24.0f;
    return (uint32_t)fminf((x - fminf(floorf(x), 1023.0f)) * 1024.0f, 1023.0f);
}
