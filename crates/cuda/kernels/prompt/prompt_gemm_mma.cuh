// The main loop of the prompt products on mma.sync.m16n8k16, for every architecture since sm_80.
//
// A block's tile is BM rows by 128 columns; a warp computes 32 rows by 64 columns. Shared memory holds STAGES steps of 64 in k: BM
// rows of A, then 128 rows of W, 128 bytes a row, filled with cp.async. The 16-byte chunk c of row r lies at place c ^ (r % 8), so
// that the eight rows that ldmatrix reads together lie in different banks.
#pragma once

#include "prompt/prompt_gemm.cuh"
#include "tensor_core.cuh"

constexpr int MMA_BN = 128;
constexpr int MMA_BK = 64;

__device__ __forceinline__ void copy_chunk(uint32_t to, const __half* from, bool present) {
    // With a source size of zero nothing is read, and 16 zero bytes are written.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present ? 16 : 0) : "memory");
}

__device__ __forceinline__ void mma_k16(float* c, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <PromptEpilogue E, int BM, int STAGES>
__device__ __forceinline__ void prompt_gemm_mma(const PromptGemmArgs& a, char* shared) {
    constexpr int THREADS = 2 * BM;
    constexpr int COPY_ROWS = THREADS / 8;  // rows that the block copies at once
    constexpr int A_BYTES = BM * 128;
    constexpr int STAGE_BYTES = A_BYTES + MMA_BN * 128;

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_row = (warp >> 1) * 32, warp_col = (warp & 1) * 64;
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);

    const int copy_row = threadIdx.x >> 3, copy_chunk_at = threadIdx.x & 7;
    const uint32_t copy_to = base + copy_row * 128 + ((copy_chunk_at ^ (copy_row & 7)) << 4);

    // The rows of ldmatrix's four matrices. A: rows 0-7, 8-15 of the first 8 in k, then of the second 8. W: two in k, then the next 8.
    const uint32_t a_from = base + (warp_row + (lane & 15)) * 128;
    const uint32_t w_from = base + A_BYTES + (warp_col + (lane & 7) + ((lane >> 4) << 3)) * 128;
    const int a_chunk = lane >> 4, w_chunk = (lane >> 3) & 1;

    const int n_step = (a.k + MMA_BK - 1) / MMA_BK;
    PromptTiles<BM, MMA_BN> tiles(a, blockIdx.x, gridDim.x);
    PromptTile tile;
    while (tiles.next(tile)) {
        const __half* a_row = a.a + (size_t)(tile.row + copy_row) * a.k + copy_chunk_at * 8;
        const __half* w_row = a.w + ((size_t)tile.expert * a.n + tile.col + copy_row) * a.w_k + copy_chunk_at * 8;
        const int rows_left = tile.row_end - tile.row - copy_row, cols_left = a.n - tile.col - copy_row;
        auto copy = [&](int step) {
            if (step < n_step) {
                const uint32_t to = copy_to + step % STAGES * STAGE_BYTES;
                const int at = step * MMA_BK, w_at = w_column(a, at);
                const bool within = at + copy_chunk_at * 8 < a.k;
#pragma unroll
                for (int i = 0; i < BM / COPY_ROWS; ++i)
                    copy_chunk(to + i * COPY_ROWS * 128, a_row + (size_t)i * COPY_ROWS * a.k + at,
                               within && i * COPY_ROWS < rows_left);
#pragma unroll
                for (int i = 0; i < MMA_BN / COPY_ROWS; ++i)
                    copy_chunk(to + A_BYTES + i * COPY_ROWS * 128, w_row + (size_t)i * COPY_ROWS * a.w_k + w_at,
                               within && i * COPY_ROWS < cols_left);
            }
            asm volatile("cp.async.commit_group;" ::: "memory");
        };

        float c[2][32];
#pragma unroll
        for (int i = 0; i < 32; ++i) c[0][i] = c[1][i] = 0.0f;
#pragma unroll
        for (int s = 0; s < STAGES - 1; ++s) copy(s);
        for (int step = 0; step < n_step; ++step) {
            asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
            // Step `step` has arrived for all threads, and all have read step - 1, whose place the next copy takes.
            __syncthreads();
            copy(step + STAGES - 1);
            const uint32_t stage = step % STAGES * STAGE_BYTES;
#pragma unroll
            for (int kk = 0; kk < MMA_BK / 16; ++kk) {
                uint32_t af[2][4], wf[4][4];
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    load_matrices(af[i], a_from + stage + i * 16 * 128 + (((2 * kk + a_chunk) ^ (lane & 7)) << 4));
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    load_matrices(wf[i], w_from + stage + i * 16 * 128 + (((2 * kk + w_chunk) ^ (lane & 7)) << 4));
#pragma unroll
                for (int i = 0; i < 2; ++i)
#pragma unroll
                    for (int j = 0; j < 8; ++j) mma_k16(&c[i][4 * j], af[i], wf[j >> 1][2 * (j & 1)], wf[j >> 1][2 * (j & 1) + 1]);
            }
        }
        // The next tile's first copies go where the last steps may still be read.
        __syncthreads();
        const PromptPart part = part_of(a, tile, warp_row, warp_col);
        PromptPairs before;
        if constexpr (E == PROMPT_RESIDUAL) load_before(a, part, 0, before);
        finish<E, BM != 128, 2, 16, 0>(a, part, c[0], before);
    }
}
