// Instructions of the tensor cores that every GPU from compute capability 8.0 on has, and those that bring their operands.
#pragma once

#include <cstdint>

// c += a b. Lane 4g + t: a holds (row g, k 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..); b (k 2t.., column g) and
// (2t + 8.., g); c (row g, columns 2t, 2t + 1), (g + 8, 2t, 2t + 1).
__device__ __forceinline__ void mma_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                        uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
}

// Four 8 x 8 matrices of shared memory; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// Four lanes hold four words each, and lane t gets word t of each lane, in the order of the lanes.
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4]) {
    const int t = threadIdx.x & 3;
    const uint32_t a = __shfl_xor_sync(~0u, t & 1 ? w[0] : w[1], 1);
    const uint32_t b = __shfl_xor_sync(~0u, t & 1 ? w[2] : w[3], 1);
    if (t & 1) w[0] = a, w[2] = b;
    else w[1] = a, w[3] = b;
    const uint32_t c = __shfl_xor_sync(~0u, t & 2 ? w[0] : w[2], 2);
    const uint32_t d = __shfl_xor_sync(~0u, t & 2 ? w[1] : w[3], 2);
    if (t & 2) w[0] = c, w[1] = d;
    else w[2] = c, w[3] = d;
}

// Where prompt_packed.cuh takes column i of its activations.
__device__ __forceinline__ int even_then_odd(int i) { return (i & ~15) + ((i & 15) >> 1) + 8 * (i & 1); }

// Eight neighbouring pairs of float16, the columns of a step of 16 in k, in that order.
__device__ __forceinline__ void even_then_odd(const uint32_t (&w)[8], uint32_t (&to)[8]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[i] = __byte_perm(w[2 * i], w[2 * i + 1], 0x5410);
        to[4 + i] = __byte_perm(w[2 * i], w[2 * i + 1], 0x7632);
    }
}
