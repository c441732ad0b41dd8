// Up to P columns, 1 or 8: a block computes a tile of 16 rows, a warp one range of units, four units at a time, on mma.sync.
#pragma once

#include "half.cuh"

constexpr int NARROW_STAGES = 3;

template <int F, int P>
struct NarrowQuad {
    static constexpr int WEIGHTS = 4 * Layout<F>::UNIT + Layout<F>::TAIL, BYTES = WEIGHTS + 8 * P * 64;
    static constexpr int SHARED = WARPS * NARROW_STAGES * BYTES + WARPS * 16 * (P + 1) * 4;
};

template <int F, int P>
__global__ void __launch_bounds__(WARPS * 32, 3) narrow(const __grid_constant__ Args args) {
    using L = Layout<F>;
    using Q = NarrowQuad<F, P>;
    constexpr int STAGES = NARROW_STAGES;
    extern __shared__ __align__(128) uint8_t shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, tile = blockIdx.x;
    const int u0 = range_start<F>(args.n_unit, warp), u1 = range_start<F>(args.n_unit, warp + 1), n_quad = (u1 - u0 + 3) / 4;
    let_next_start();
    uint8_t* const stages = shared + warp * STAGES * Q::BYTES;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    float(*sums)[16][P + 1] = (float(*)[16][P + 1])(shared + WARPS * STAGES * Q::BYTES);
    const uint8_t* w = args.w + tile * L::tile_bytes(args.n_unit) + L::unit_at(u0) + lane * 16;
    const auto units_of = [&](int quad) { return min(4, u1 - u0 - 4 * quad); };
    const auto copy_quad = [&](int stage, int quad) {
        const int n_chunk = (units_of(quad) * L::UNIT + L::TAIL) / 16;
#pragma unroll
        for (int i = 0; i < Q::WEIGHTS / 16; i += 32)
            if (i + lane < n_chunk) copy_weights(stages_at + stage * Q::BYTES + (lane + i) * 16, w + (size_t)quad * Q::WEIGHTS + i * 16);
    };
    // With these numbers of columns the activations of a quad are in one piece.
    const __half* x = args.x + (size_t)u0 * 64 * P + lane * 8;
    const auto copy_act = [&](int stage, int quad) {
#pragma unroll
        for (int i = 0; i < 32 * P; i += 32)
            if (i + lane < 8 * P * units_of(quad))
                copy_activations<16>(stages_at + stage * Q::BYTES + Q::WEIGHTS + (lane + i) * 16, x + (size_t)quad * 256 * P + i * 8);
    };
    for (int i = 0; i < STAGES && i < n_quad; i++) copy_quad(i, i);
    wait_for_previous();
    for (int i = 0; i < STAGES; i++) {
        if (i < n_quad) copy_act(i, i);
        commit_copies();
    }
    float acc[4] = {};
    int stage = 0;
#pragma unroll 1
    for (int quad = 0; quad < n_quad; quad++) {
        wait_copies<STAGES - 1>();
        __syncwarp();
        const uint8_t* weights = stages + stage * Q::BYTES;
        const uint32_t act = stages_at + stage * Q::BYTES + Q::WEIGHTS + lane * 16;
        // A unit's weights and activations are read while the one before it is multiplied.
        Unit<F> unit[2];
        __align__(16) uint32_t b[2][2][4];
        const auto read = [&](int j) {
            read_integers<F, false>(unit[j & 1], weights + j * L::UNIT, lane);
            read_scales<F>(unit[j & 1], weights + j * L::UNIT, weights + 4 * L::UNIT, g);
#pragma unroll
            for (int kb = 0; kb < 2; kb++) {
                if constexpr (P == 1) *(uint4*)b[j & 1][kb] = *(const uint4*)(weights + Q::WEIGHTS + (2 * j + kb) * 64 + t * 16);
                else load_parts(b[j & 1][kb], act + (2 * j + kb) * 512);
            }
        };
        read(0);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (L::TAIL == 0 && j >= units_of(quad)) break;
            if (j < 3) read(j + 1);
#pragma unroll
            for (int kb = 0; kb < 2; kb++) {
                uint32_t a[2][4];
                half_weights<F>(a, unit[j & 1], kb);
                mma_f16(acc, a[0], b[j & 1][kb][0], b[j & 1][kb][1]);
                mma_f16(acc, a[1], b[j & 1][kb][2], b[j & 1][kb][3]);
            }
        }
        __syncwarp();
        if (quad + STAGES < n_quad) {
            copy_quad(stage, quad + STAGES);
            copy_act(stage, quad + STAGES);
        }
        commit_copies();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (2 * t + (i & 1) < P) sums[warp][g + (i & 2) * 4][2 * t + (i & 1)] = acc[i];
    __syncthreads();
    const int row = threadIdx.x % 16, c = threadIdx.x / 16;
    if (c >= args.n_col || c >= P) return;
    float y = sums[0][row][c];
#pragma unroll
    for (int r = 1; r < WARPS; r++) y = __fadd_rn(y, sums[r][row][c]);
    args.out[(size_t)c * args.n_tile * 16 + tile * 16 + row] = __fmul_rn(y, DIVISOR);
}
