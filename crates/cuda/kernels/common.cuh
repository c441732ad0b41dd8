// What all kernels share: the rows of a step, activations as the decode kernels read them, and how a kernel waits for the
// one before it.
//
// Vectors of a row are written [n_row, n]; a "column" is a row of the batch as the decode products see it (their N dimension).
// Every kernel calls `wait_for_previous()` before it reads what another kernel wrote and writes nothing before that, but for those of
// unpack.cu that unpack weights, and products that run beside the one before them (`beside` in prompt_packed.cuh).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>

// Tokens in a page of the KV cache.
constexpr int PAGE = 64;

// A float16, where a number too large for one becomes the largest: an infinity in the KV cache would make every later row that reads it
// not a number.
__device__ __forceinline__ __half saturate(float v) { return __float2half_rn(fminf(fmaxf(v, -65504.0f), 65504.0f)); }

// One row of a step. Inactive rows (padding of a captured graph) have slot -1: they compute nothing.
struct Row {
    int32_t slot;      // the sequence's place, below n_slot; its page table is page_tables[slot]
    int32_t position;  // of the row's token in its sequence
    int32_t token;     // its id, or -1: the one last sampled in this slot, last[slot]
    int32_t reserved;
};
static_assert(sizeof(Row) == 16, "as in src/args.rs");

// A block of 32 quantised activations: x[i] = d * q[i]. `sum` is d times the sum of the integers, for weights with a minimum.
struct ActScale {
    float d;
    float sum;
};
static_assert(sizeof(ActScale) == 8, "one load");

// Float16 activations are values divided by this, and products multiply their sums by it: rows that are yet to be normed outgrow float16.
constexpr int ACT_SHIFT = 4;
constexpr float ACT_DIVISOR = 1 << ACT_SHIFT;

// Where activations for the decode products go, in any of three forms (null: not wanted).
// k_pad is n_in rounded up to 64 (the rest is 0).
struct ActOut {
    // [k_pad/32][n_col][4][8] bytes: the eight of t are integers 4t..4t+3 and 16+4t..16+4t+3 of the block, in this order: what a
    // lane needs for the B fragment of mma.m16n8k32.s8.
    int8_t* q;
    ActScale* s;  // [k_pad/32][n_col]
    float* f;     // [n_col][k_pad]
    __half* h;    // see `half_place`
    int32_t n_col;
    int32_t k_pad;

    __device__ __forceinline__ bool is_wanted() const { return q || f || h; }
};
static_assert(sizeof(ActOut) == 40, "as in src/args.rs");

// Where the float16 of value `i` of block `kb` of a column stands. A block of 32 has four parts of 8 values: part 2h + p has of each four
// values 16h + 4t.. (t = 0 to 3) those at p and p + 2. One column: [kb][t][part][2]; else, as the tensor cores read them,
// [kb][columns/8, rounded up][part][8 columns][8].
__device__ __forceinline__ size_t half_place(int n_col, int column, int kb, int i) {
    const int part = (i >> 4) * 2 + (i & 1), t = i >> 2 & 3, second = i >> 1 & 1;
    if (n_col == 1) return (size_t)kb * 32 + (t * 4 + part) * 2 + second;
    const size_t group = (size_t)kb * ((n_col + 7) / 8) + column / 8;
    return ((group * 4 + part) * 8 + column % 8) * 8 + t * 2 + second;
}

// Too large a value becomes the largest, a NaN stays one.
__device__ __forceinline__ __half act_half(float v) {
    constexpr float TOP = 65504.0f * ACT_DIVISOR;
    return __float2half_rn((v > TOP ? TOP : v < -TOP ? -TOP : v) * (1.0f / ACT_DIVISOR));
}

// Blocks until all earlier kernels of the stream have completed and their writes are visible (programmatic dependent launch; does
// nothing in a kernel launched without that attribute).
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// A load of what no kernel of a step writes, here and now: the compiler moves other loads to where their value is used, which is after the wait.
__device__ __forceinline__ float load_now(const float* from) {
    float v;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(from));
    return v;
}

// Lets the next kernel of the stream start its part before `wait_for_previous`.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Thread block clusters, where the device has them: all blocks' threads arrive, then wait. What was written before a releasing arrival is
// seen after an acquiring wait.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
// Arrives with nothing to show but that the block has started.
__device__ __forceinline__ void cluster_join() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// How many blocks a cluster has: 1 in a kernel launched without.
__device__ __forceinline__ int cluster_size() {
#if __CUDA_ARCH__ >= 900
    int n;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
    return n;
#else
    return 1;
#endif
}

// What block `rank` of the cluster has where this block has `own` in its shared memory.
__device__ __forceinline__ float4 load_from(const float4* own, int rank) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#if __CUDA_ARCH__ >= 900
    uint32_t at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"((uint32_t)__cvta_generic_to_shared(own)), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(at) : "memory");
#endif
    return v;
}

// Writes to the shared memory of the cluster's first block, where that block has `own`.
__device__ __forceinline__ void store_to_first(float* own, float value) {
#if __CUDA_ARCH__ >= 900
    uint32_t at;
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(at) : "r"((uint32_t)__cvta_generic_to_shared(own)));
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(at), "f"(value) : "memory");
#endif
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
    return v;
}

// The same bits in every lane: each level adds the same two values in all lanes.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

// Stores a block of 32 values of one column; called by a whole warp, lane i gives value i of block kb.
__device__ __forceinline__ void store_act_block(const ActOut& out, int column, int kb, float value) {
    const int lane = threadIdx.x & 31;
    if (out.f) out.f[(size_t)column * out.k_pad + kb * 32 + lane] = value;
    if (out.h) out.h[half_place(out.n_col, column, kb, lane)] = act_half(value);
    if (!out.q) return;
    // As integers, floats that are not negative are in the same order.
    const float largest = __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(fabsf(value))));
    const float d = largest * (1.0f / 127.0f);
    const float inverse = largest > 0.0f ? __fdividef(127.0f, largest) : 0.0f;
    const int q = __float2int_rn(value * inverse);
    const int sum = __reduce_add_sync(~0u, q);
    const int t = (lane & 15) >> 2, j = (lane & 3) + ((lane & 16) >> 2);
    const size_t at = (size_t)kb * out.n_col + column;
    out.q[at * 32 + t * 8 + j] = (int8_t)q;
    if (lane == 0) out.s[at] = ActScale{d, __fmul_rn(d, (float)sum)};
}

// What an RMS norm multiplies its row by, from the sum of squares of the row's `n` blocks of 32.
__device__ __forceinline__ float scale_of_squares(float sum, int n, float eps) { return 1.0f / sqrtf(sum / (32.0f * n) + eps); }

// Likewise from the sums of its blocks; called by a whole warp.
__device__ __forceinline__ float norm_scale(const float* squares, int n, float eps) {
    float sum = 0.0f;
#pragma unroll 4
    for (int i = threadIdx.x & 31; i < n; i += 32) sum += squares[i];
    return scale_of_squares(warp_sum(sum), n, eps);
}
