// What both attention kernels share: operands of matrix instructions, exponentials in base 2, spans of prompts.
#pragma once

#include "common.cuh"
#include "tensor_core.cuh"

// Rows of one sequence that follow each other, among the prompt rows of a step.
struct PromptSpan {
    int32_t row0;   // of the step's rows
    int32_t n_row;
    int32_t slot;   // page_tables[slot * max_pages ..]
    int32_t start;  // position of row0
};
static_assert(sizeof(PromptSpan) == 16, "as in src/launch/attend.rs");

constexpr float LOG2_E = 1.4426950408889634f;

// 2^v; exact for v = 0, 0 for v = -inf.
__device__ __forceinline__ float exp2_fast(float v) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

// What to subtract from scores whose largest is m: nothing may be seen yet, and -inf - -inf is not a number.
__device__ __forceinline__ float finite_max(float m) { return m == -INFINITY ? 0.0f : m; }

// a is in the lower half.
__device__ __forceinline__ uint32_t pack_half2(float a, float b) {
    const __half2 h = __floats2half2_rn(a, b);
    return *(const uint32_t*)&h;
}

// What the float16 of `high` leave of a and b.
__device__ __forceinline__ uint32_t second_half2(float a, float b, uint32_t high) {
    const float2 rounded = __half22float2(*(const __half2*)&high);
    return pack_half2(a - rounded.x, b - rounded.y);
}

// An 8 x 8 matrix across the warp: lane 4g + t gives (row g, columns 2t, 2t + 1) and gets (rows 2t, 2t + 1, column g).
__device__ __forceinline__ uint32_t transpose(uint32_t v) {
    uint32_t r;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}

// 16 bytes to shared memory, in the background; zeros if not `wanted`.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(wanted ? 16 : 0) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }
