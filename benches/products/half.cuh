// Weights of the worker's layout (crates/cuda/kernels/format.cuh) as float16 operands of the tensor cores, and float16 activations to match.
//
// A weight is its integer times its scale, and with the minimum added where there is one, rounded to float16 as the scale and the minimum
// are. n_in is cut into 8 ranges of units; a range is one chain of m16n8k16 steps with float32 sums, in ascending order of k, begun at
// zero, and an element the sum of its ranges in order. wgmma's chain has the same bits as mma.sync's (seen, not documented).
#pragma once

#include "product.cuh"

// Activations are stored as float16 divided by this, and sums multiplied by it: rows that are yet to be normed outgrow float16.
constexpr float DIVISOR = 16.0f;

struct Args {
    const uint8_t* w;  // tiles
    const __half* x;   // see `half_at_place`
    float* out;        // [n_col][16 n_tile]
    int n_tile, n_unit, n_col;
};

// Where value `i` of block `kb` of a column stands. A block of 32 has four parts of 8 values: part 2h + p has of each four values
// 16h + 4t.. (t = 0 to 3) those at p and p + 2. One column: [kb][t][part][2]; else [kb][8 columns][part][column][8], core matrices of wgmma.
__device__ __forceinline__ size_t half_at_place(int n_col, int column, int kb, int i) {
    const int part = (i >> 4) * 2 + (i & 1), t = i >> 2 & 3, second = i >> 1 & 1;
    if (n_col == 1) return (size_t)kb * 32 + (t * 4 + part) * 2 + second;
    const size_t group = (size_t)kb * ((n_col + 7) / 8) + column / 8;
    return ((group * 4 + part) * 8 + column % 8) * 8 + t * 2 + second;
}

// Too large a value becomes the largest, a NaN stays one.
__device__ __forceinline__ __half act_half(float v) {
    constexpr float TOP = 65504.0f * DIVISOR;
    return __float2half_rn((v > TOP ? TOP : v < -TOP ? -TOP : v) * (1.0f / DIVISOR));
}

__device__ __forceinline__ uint32_t bits_of(__half2 v) { return *(const uint32_t*)&v; }
__device__ __forceinline__ __half2 halves_of(uint32_t bits) { return *(const __half2*)&bits; }
__device__ __forceinline__ __half2 twice(float v) { return __float2half2_rn(v); }

// Half i of a word, twice.
__device__ __forceinline__ __half2 half_twice(uint32_t word, int i) { return halves_of(__byte_perm(word, 0, i == 0 ? 0x1010 : 0x3232)); }

// 0x6400 is 1024, and bytes and nibbles in its mantissa are added to that.
constexpr uint32_t HALF_MAGIC = 0x64006400u;

// Bytes i and i + 1 of a word.
__device__ __forceinline__ __half2 two_bytes(uint32_t word, int i) {
    return __hadd2_rn(halves_of(__byte_perm(word, HALF_MAGIC, 0x5150 + i * 0x0101)), twice(-1024.0f));
}

// Of row r: what multiplies the weights of both blocks, and what is added to them.
struct HalfScales {
    __half2 factor, added;
};

template <int F>
__device__ __forceinline__ HalfScales half_scales(const Unit<F>& unit, int r) {
    static_assert(Layout<F>::SCALES == SCALES_U8_MIN, "the only scales that this program reads");
    const uint32_t d = r == 0 ? unit.tail.x : unit.tail.y;
    return {__hmul2_rn(half_twice(d, 0), two_bytes(unit.scales.x, 2 * r)),
            __hmul2_rn(half_twice(d ^ 0x80000000u, 1), two_bytes(unit.scales.y, 2 * r))};
}

// The integers of (kb, r, h), exactly: of slots p and p + 2.
template <int F>
__device__ __forceinline__ __half2 half_integers(const Unit<F>& unit, int kb, int r, int h, int p) {
    static_assert(F == Q4_K, "nibbles without an offset, and no other bits");
    const uint32_t w = (kb == 0 ? (r == 0 ? unit.nibbles.x : unit.nibbles.y) : (r == 0 ? unit.nibbles.z : unit.nibbles.w)) >> 8 * p;
    uint32_t q;
    // (w & mask) | HALF_MAGIC in one, which the compiler makes two of.
    if (h == 0) asm("lop3.b32 %0, %1, 0x000F000F, 0x64006400, 0xEA;" : "=r"(q) : "r"(w));
    else asm("lop3.b32 %0, %1, 0x00F000F0, 0x64006400, 0xEA;" : "=r"(q) : "r"(w));
    return h == 0 ? __hadd2_rn(halves_of(q), twice(-1024.0f)) : __hfma2(halves_of(q), twice(1.0f / 16.0f), twice(-64.0f));
}

// A lane's weights of block kb as the A fragments of two steps of 16 (h), in which columns 4t and 4t + 2 of the block's half stand at k = 2t
// and the next, and columns 4t + 1 and 4t + 3 eight later.
template <int F>
__device__ __forceinline__ void half_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const HalfScales both = half_scales<F>(unit, r);
        const __half2 factor = kb == 0 ? __low2half2(both.factor) : __high2half2(both.factor);
        const __half2 added = kb == 0 ? __low2half2(both.added) : __high2half2(both.added);
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int p = 0; p < 2; p++) a[h][r + 2 * p] = bits_of(__hfma2(half_integers<F>(unit, kb, r, h, p), factor, added));
    }
}

// Of 8 columns, the four parts of a block: lane 8 i + c gives where part i of column c is.
__device__ __forceinline__ void load_parts(uint32_t (&b)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(from)
                 : "memory");
}

// A lane has rows g and g + 8 of columns 2t and 2t + 1.
__device__ __forceinline__ void mma_f16(float* c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
