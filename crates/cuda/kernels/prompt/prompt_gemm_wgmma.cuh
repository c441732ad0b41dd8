// The main loop of the prompt products on wgmma, for sm_90a.
//
// A tile is BM rows by BN columns. Warpgroups 0 and 1 compute, each 64 rows: the two halves of 128 rows, or the two halves of BN.
// One thread of warpgroup 2 keeps STAGES steps of 64 in k on their way into shared memory, ahead across tiles: while sums are stored,
// the next tile's operands arrive. A barrier `full` a stage counts the bytes that arrived, a barrier `empty` the warps that have
// read them.
#pragma once

#include "prompt/prompt_gemm.cuh"
#include "sm90.cuh"

struct PromptGemmTmaArgs {
    TensorMap a_map;  // f16 [rows the buffer holds, k] from `a`: box [BM, 64], 128-byte swizzle, zeros outside
    TensorMap w_map;  // f16 [n, k], with experts [n_expert * n, k], from `w`: box [BN, 64], the same otherwise
    PromptGemmArgs g;
};
static_assert(sizeof(PromptGemmTmaArgs) == 384, "as in src/launch/prompt_gemm.rs");

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// ALONE: the producer is a warpgroup, else one warp.
template <PromptEpilogue E, int BM, int BN, int STAGES, bool ALONE>
__device__ __forceinline__ void prompt_gemm_wgmma(const PromptGemmTmaArgs& args, char* shared) {
    constexpr int A_BYTES = BM * 128, STAGE_BYTES = A_BYTES + BN * 128;
    constexpr int WN = BM == 128 ? BN : BN / 2;  // columns of a warpgroup
    constexpr int CONSUMER_WARPS = 8;
    const PromptGemmArgs& g = args.g;
    const uint32_t base = ((uint32_t)__cvta_generic_to_shared(shared) + 1023) & ~1023u;
    const uint32_t full = base + STAGES * STAGE_BYTES, empty = full + STAGES * 8;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, CONSUMER_WARPS);
        }
        barriers_visible();
    }
    __syncthreads();
    wait_for_previous();
    // Not before: the next weights are unpacked to where the product before this one read (unpack.cu).
    let_next_start();

    const int n_step = (g.k + 63) / 64;
    PromptTiles<BM, BN> tiles(g, blockIdx.x, gridDim.x);
    PromptTile tile;
    int stage = 0;
    uint32_t phase = 0;
    const int warpgroup = __shfl_sync(~0u, threadIdx.x >> 7, 0);
    if (warpgroup == 2) {
        if constexpr (ALONE) registers_down_to<40>();
        if (threadIdx.x == 256) {
            while (tiles.next(tile)) {
                const int w_row = tile.expert * g.n + tile.col;
                for (int step = 0; step < n_step; ++step) {
                    const uint32_t to = base + stage * STAGE_BYTES, arrived = full + 8 * stage;
                    barrier_wait(empty + 8 * stage, phase ^ 1);
                    barrier_expect(arrived, STAGE_BYTES);
                    copy_box(to, &args.a_map, step * 64, tile.row, arrived);
                    copy_box(to + A_BYTES, &args.w_map, w_column(g, step * 64), w_row, arrived);
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        if constexpr (ALONE) registers_up_to<232>();
        const int lane = threadIdx.x & 31;
        const int part_row = BM == 128 ? warpgroup * 64 : 0, part_col = BM == 128 ? 0 : warpgroup * WN;
        const uint64_t a_part = operand(base + part_row * 128), w_part = operand(base + A_BYTES + part_col * 128);
        auto release = [&](int stage) {
            if (lane == 0) barrier_arrive(empty + 8 * stage);
        };
        while (tiles.next(tile)) {
            float c[WN / 2];
            int last = 0;
            for (int step = 0; step < n_step; ++step) {
                barrier_wait(full + 8 * stage, phase);
                const uint64_t at = stage * (STAGE_BYTES >> 4);
                wgmma_fence();
#pragma unroll
                for (int kk = 0; kk < 4; ++kk) wgmma_k16<WN>(c, a_part + at + 2 * kk, w_part + at + 2 * kk, step | kk);
                wgmma_commit();
                // The step before is read: the tensor cores have the next one queued.
                wgmma_wait<1>();
                if (step > 0) release(last);
                last = stage;
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
            const PromptPart part = part_of(g, tile, part_row + ((threadIdx.x >> 5) & 3) * 16, part_col);
            PromptPairs before;
            if constexpr (E == PROMPT_RESIDUAL) load_before(g, part, 0, before);
            wgmma_wait<0>();
            release(last);
            finish<E, ALONE, WN / 64, 0, 64>(g, part, c, before);
        }
    }
}
#endif
