// Products in float16 with the matrices of experts that several rows may have chosen, on mma.sync: for sm_90a.
//
// A block computes 8 tiles of 16 rows of one expert for all of its columns, 8 NT at a time, a warp one of the tiles, all ranges one after
// the other. A ninth warp keeps stages of some units on their way to shared memory: weights with the copy engine, and activations, whose
// columns are any, 16 bytes a lane. So a weight is read and unpacked once for up to 8 NT columns. A matrix that
// all rows have is computed likewise, where that is faster than product_half_wide.cuh.
#pragma once

#include "product/product_half_wide.cuh"

template <int F, int NT>
struct HalfExpertStage {
    using L = Layout<F>;
    // Dynamic shared memory: the stages, the sums, the columns' scales, the barriers. Three blocks a multiprocessor.
    static constexpr int SHARED = 74 << 10;
    static constexpr int MOST = 8;
    static constexpr int SUMS = WARPS * 16 * (8 * NT + 1) * 4;
    static constexpr int ROOM = SHARED - SUMS - 8 * NT * 4 - MOST * 16;
    // Four, or where three stages of so many have no room, two; of weights of 16 bits, one.
    static constexpr int UNITS = L::FLOAT ? 1 : 3 * (WARPS * (4 * L::UNIT + L::TAIL) + 8 * NT * 512) <= ROOM ? 4 : 2;
    static constexpr int WEIGHTS = UNITS * L::UNIT + L::TAIL;  // of a tile
    static constexpr int AT_ACTIVATIONS = WARPS * WEIGHTS;     // [block of 32][8 columns][part][column][8]
    static constexpr int AT_SUMS = ROOM, AT_SCALES = AT_SUMS + SUMS, AT_BARRIERS = AT_SCALES + 8 * NT * 4;

    __host__ __device__ static constexpr int bytes(int n_group) { return AT_ACTIVATIONS + UNITS * 2 * n_group * 512; }
    static_assert(2 * (AT_ACTIVATIONS + UNITS * 2 * NT * 512) <= ROOM, "two stages of all columns");
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Arrives when what this thread has copied with cp.async so far is there.
__device__ __forceinline__ void barrier_arrive_with_copies(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Which tiles and columns a block computes.
template <int F, int NT>
struct HalfExpertPart {
    using S = HalfExpertStage<F, NT>;
    const ProductArgs& args;
    Columns columns;
    const uint8_t* w;
    int tile0;
    int n_group;  // of 8 columns, at a time
    int n_stage, stage_bytes;
    int n_ahead;  // stages whose weights do not depend on the previous kernel
    uint32_t stages, full, empty;  // in shared memory

    __device__ int n_step() const { return (args.n_unit + S::UNITS - 1) / S::UNITS; }
};

template <int F, int NT>
__device__ __forceinline__ void copy_expert(HalfExpertPart<F, NT> part) {
    using L = Layout<F>;
    using S = HalfExpertStage<F, NT>;
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, n_step = part.n_step(), n_unit = args.n_unit;
    const size_t block_stride = (size_t)(args.x.n_col + 7) / 8 * 256;
    const uint64_t tile_bytes = L::tile_bytes(n_unit);
    const int n_more = args.n_tile - 1 - part.tile0;  // tiles after the first
    const uint8_t* w = part.w + part.tile0 * tile_bytes;
    const auto copy_weights_of = [&](int stage, int step) {
        constexpr bool IS_QUAD = S::UNITS == 4;
        const int u = step * S::UNITS, n = min(S::UNITS, n_unit - u);
        const uint32_t full = part.full + 8 * stage, to = part.stages + stage * part.stage_bytes;
        if (elected()) {
            barrier_expect(full, WARPS * (n * L::UNIT + L::TAIL));
            const uint8_t* tile = w;
#pragma unroll
            for (int i = 0; i < WARPS; i++) {
                copy_bulk(to + i * S::WEIGHTS, tile + L::unit_at(u), n * L::UNIT + (IS_QUAD ? L::TAIL : 0), full);
                if (!IS_QUAD && L::TAIL > 0) copy_bulk(to + i * S::WEIGHTS + S::UNITS * L::UNIT, tile + L::tail_at(u), L::TAIL, full);
                tile += i < n_more ? tile_bytes : 0;
            }
        }
        __syncwarp();
    };
    for (int s = 0; s < part.n_ahead; s++) copy_weights_of(s, s);
    wait_for_previous();
    int stage = 0, n_filled = 0;
    uint32_t parity = 0;
    for (; part.columns.first < part.columns.end; part.columns.first += 8 * part.n_group) {
        // A lane copies a part of a column of each group.
        const __half* x[NT];
#pragma unroll
        for (int n = 0; n < NT; n++)
            x[n] = args.x.h + half_place(args.x.n_col, part.columns.source(8 * n + (lane & 7)), 0, 0) + (lane >> 3) * 64;
        for (int step = 0; step < n_step; step++) {
            const int u = step * S::UNITS, n = min(S::UNITS, n_unit - u);
            const uint32_t full = part.full + 8 * stage, to = part.stages + stage * part.stage_bytes;
            if (n_filled >= part.n_stage) {
                barrier_wait(part.empty + 8 * stage, parity);
                if (stage + 1 == part.n_stage) parity ^= 1;
            }
            if (n_filled >= part.n_ahead) copy_weights_of(stage, step);
            n_filled++;
#pragma unroll
            for (int i = 0; i < 2 * S::UNITS; i++)
#pragma unroll
                for (int j = 0; j < NT; j++)
                    if (i < 2 * n && j < part.n_group)
                        copy_activations<16>(to + S::AT_ACTIVATIONS + (i * part.n_group + j) * 512 + lane * 16, x[j] + (2 * u + i) * block_stride);
            barrier_arrive_with_copies(full);
            stage = stage + 1 == part.n_stage ? 0 : stage + 1;
        }
    }
}

template <int F, int NT>
__device__ __forceinline__ void multiply_expert(HalfExpertPart<F, NT> part, uint8_t* shared, const float* bias) {
    using L = Layout<F>;
    using S = HalfExpertStage<F, NT>;
    constexpr int ROWS = WARPS * 16, LD = 8 * NT + 1;
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, n_step = part.n_step();
    float(*sums)[ROWS][LD] = (float(*)[ROWS][LD])(shared + S::AT_SUMS);
    float* const scales = (float*)(shared + S::AT_SCALES);
    const auto synchronise = [] { asm volatile("bar.sync 1, %0;" ::"n"(WARPS * 32) : "memory"); };
    int stage = 0;
    uint32_t parity = 0;
    for (; part.columns.first < part.columns.end; part.columns.first += 8 * part.n_group) {
        const int n_here = min(part.columns.end - part.columns.first, 8 * part.n_group), n_group = (n_here + 7) / 8;
        if (args.squares) store_scales<8 * NT>(args, part.columns, scales);
        float acc[NT][4] = {}, total[NT][4];
        // Groups that there are not are the last one again: to leave them out would keep the blocks of a quad from overlapping.
        uint32_t at_group[NT];
#pragma unroll
        for (int n = 0; n < NT; n++) at_group[n] = min(n, n_group - 1) * 512;
        int range = 0;
        const auto end_range = [&] {
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    total[n][i] = range == 0 ? acc[n][i] : __fadd_rn(total[n][i], acc[n][i]);
                    acc[n][i] = 0.0f;
                }
            range++;
        };
#pragma unroll 1
        for (int step = 0; step < n_step; step++) {
            const int u = step * S::UNITS;
            while (range + 1 < WARPS && range_start<F>(args.n_unit, range + 1) <= u) end_range();
            barrier_wait(part.full + 8 * stage, parity);
            const uint8_t* weights = shared + stage * part.stage_bytes + warp * S::WEIGHTS;
            const uint32_t act = part.stages + stage * part.stage_bytes + S::AT_ACTIVATIONS + lane * 16;
            each_block<F, S::UNITS>(weights, weights + S::UNITS * L::UNIT, min(S::UNITS, args.n_unit - u), [&](int i, const uint32_t (&a)[2][4]) {
#pragma unroll
                for (int n = 0; n < NT; n++) {
                    uint32_t b[4];
                    load_matrices(b, act + i * part.n_group * 512 + at_group[n]);
                    mma_f16(acc[n], a[0], b[0], b[1]);
                    mma_f16(acc[n], a[1], b[2], b[3]);
                }
            });
            __syncwarp();
            if (lane == 0) barrier_arrive(part.empty + 8 * stage);
            stage = stage + 1 == part.n_stage ? 0 : stage + 1;
            if (stage == 0) parity ^= 1;
        }
        // The rest, of which the last range is never empty.
        while (range < WARPS) end_range();
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[0][warp * 16 + g + 8 * (i >> 1)][n * 8 + 2 * t + (i & 1)] = total[n][i];
        synchronise();
        const Late<F> source{args, part.columns, 0, part.tile0 * 16, bias, scales, part.w};
        // Not by rows: the registers that this takes are spilled while the products run.
        finish<-ACT_SHIFT - WEIGHT_SHIFT<F>, 1, ROWS, LD, false, WARPS, false>(args, sums, source, n_here, part.tile0);
        synchronise();
    }
}

template <int F, int NT>
__device__ __forceinline__ void product_half_expert(const ProductArgs& args) {
    using S = HalfExpertStage<F, NT>;
    extern __shared__ __align__(128) uint8_t shared[];
    let_next_start();
    HalfExpertPart<F, NT> part{args};
    part.stages = (uint32_t)__cvta_generic_to_shared(shared), part.full = part.stages + S::AT_BARRIERS, part.empty = part.full + 8 * S::MOST;
    if (threadIdx.x == 0) {
        for (int s = 0; s < S::MOST; s++) {
            // Each lane's copies of activations, and the bytes of weights.
            barrier_init(part.full + 8 * s, 32 + 1);
            barrier_init(part.empty + 8 * s, WARPS);
        }
        barriers_visible();
    }
    const bool is_dense = args.column_divisor == 0;
    int expert = 0;
    if (is_dense) {
        // Blocks of the same tiles and other columns come one after the other, so that the second finds the weights in L2.
        const int block = blockIdx.y * gridDim.x + blockIdx.x, first = block % gridDim.y * 8 * NT;
        part.columns = Columns{nullptr, 1, first, min(args.x.n_col, first + 8 * NT)};
        part.tile0 = block / gridDim.y * WARPS;
    } else {
        wait_for_previous();
        if ((int)blockIdx.y >= args.active[0]) return;
        expert = args.active[1 + blockIdx.y];
        part.columns = Columns{args.entries, args.column_divisor, args.offsets[expert], args.offsets[expert + 1]};
        part.tile0 = blockIdx.x * WARPS;
    }
    part.w = args.w + expert * args.expert_bytes;
    part.n_group = min(NT, (part.columns.end - part.columns.first + 7) / 8);
    part.stage_bytes = S::bytes(part.n_group);
    part.n_stage = min(S::MOST, S::ROOM / part.stage_bytes);
    part.n_ahead = is_dense ? min(part.n_stage, part.n_step()) : 0;
    __syncthreads();
    if (__shfl_sync(~0u, threadIdx.x / 32, 0) == WARPS) {
        copy_expert<F, NT>(part);
    } else {
        wait_for_previous();
        multiply_expert<F, NT>(part, shared, args.bias ? args.bias + (size_t)expert * args.n_tile * 16 : nullptr);
    }
}
#else
// Never launched: see product_half_wide.cuh.
template <int F, int NT>
__device__ __forceinline__ void product_half_expert(const ProductArgs&) {
    __trap();
}
#endif
