// Products in float16 for up to P columns, 1 or 8, on mma.sync: as fast as the memory gives weights.
//
// A block computes MT tiles of 16 rows, a warp one range of units, or half of the tiles of two. A warp takes four units at a time, a "quad".
#pragma once

#include "product_early.cuh"
#include "product_half.cuh"

// In shared memory. Activations are [block of 32][`half_place` in it].
template <int F, int P>
struct HalfQuad {
    using L = Layout<F>;
    static constexpr int WEIGHTS = 4 * L::UNIT + L::TAIL;
    static constexpr int BYTES = WEIGHTS + 8 * P * 64;
};

// How many quads a warp has in shared memory at most: few where they are large or blocks are many, so that more of them fit.
template <int P, int MT>
__host__ __device__ constexpr int half_stages() {
    return P == 1 && MT == 1 ? 3 : 2;
}

// How many it has room for: of one tile no more than there are.
template <int P, int MT>
__device__ __forceinline__ int half_room(int n_unit) {
    return MT == 1 ? min(half_stages<P, MT>(), ((n_unit + 3) / 4 + WARPS - 1) / WARPS) : half_stages<P, MT>();
}

// `block` is which of the matrix's: blockIdx.x, unless a launch has several matrices.
template <int F, int P, int MT>
__device__ __forceinline__ void product_half_narrow(const ProductArgs& args, int block) {
    using L = Layout<F>;
    using Q = HalfQuad<F, P>;
    constexpr int STAGES = half_stages<P, MT>(), LD = P + 1;
    extern __shared__ __align__(128) uint8_t shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int tile0 = block * MT;
    const size_t tile_bytes = L::tile_bytes(args.n_unit);
    // Of short rows some ranges are empty: there two warps share two ranges, and each has half of the tiles.
    const bool is_shared = MT == 4 && (args.n_unit + 3) / 4 <= WARPS / 2;
    const int first_range = is_shared ? warp & ~1 : warp, end_range = first_range + (is_shared ? 2 : 1);
    const int u0 = range_start<F>(args.n_unit, first_range), u1 = range_start<F>(args.n_unit, end_range);
    const int first_m = is_shared && (warp & 1) ? MT / 2 : 0;
    const int n_m = max(0, min(is_shared ? MT / 2 : MT, args.n_tile - tile0 - first_m));
    const int n_quad = (u1 - u0 + 3) / 4, n_step = n_quad * (MT == 1 ? 1 : n_m);
    // Quads of the first range; the others are the second one's.
    const int n_first = is_shared ? (range_start<F>(args.n_unit, first_range + 1) - u0 + 3) / 4 : n_quad;
    let_next_start();

    // Dynamic shared memory: the stages, then the sums, then what the epilogue reads.
    const int stages_bytes = half_room<P, MT>(args.n_unit) * Q::BYTES;
    uint8_t* const stages = shared + warp * stages_bytes;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    float(*sums)[MT * 16][LD] = (float(*)[MT * 16][LD])(shared + WARPS * stages_bytes);
    EarlyArea<MT, P>& area = *(EarlyArea<MT, P>*)(shared + WARPS * (stages_bytes + MT * 16 * LD * 4));
    const uint8_t* w = args.w + (tile0 + first_m) * tile_bytes + L::unit_at(u0) + lane * 16;
    // Steps go through the quads of a tile, then of the next.
    struct Step {
        const uint8_t* from;
        int quad;
    };
    const auto advance = [&](Step& step) {
        step.from += Q::WEIGHTS, step.quad++;
        if (MT > 1 && step.quad == n_quad) step.from += tile_bytes - (size_t)n_quad * Q::WEIGHTS, step.quad = 0;
    };
    const auto copy_quad = [&](int stage, const Step& step) {
        const int n_chunk = L::TAIL > 0 ? Q::WEIGHTS / 16 : min(4, u1 - u0 - 4 * step.quad) * (L::UNIT / 16);
#pragma unroll
        for (int i = 0; i < Q::WEIGHTS / 16; i += 32)
            if (i + lane < n_chunk) copy_weights(stages_at + stage * Q::BYTES + (lane + i) * 16, step.from + i * 16);
    };

    // The first weights do not depend on the previous kernel.
    Step fill{w, 0};
#pragma unroll
    for (int i = 0; i < STAGES; i++)
        if (i < n_step) {
            copy_quad(i, fill);
            advance(fill);
        }
    area.copy_learned(args, args.bias, tile0);
    if constexpr (MT == 1) area.copy_places(args, tile0, 0);
    if (MT == 1 && args.next_weight) cluster_join();
    wait_for_previous();

    const Columns columns{nullptr, 1, 0, args.x.n_col};
    const __half* x = args.x.h + (size_t)u0 * 64 * P + lane * 8;
    const auto copy_act = [&](int stage, int quad) {
        const int n_chunk = 8 * P * min(4, u1 - u0 - 4 * quad);
#pragma unroll
        for (int i = 0; i < 32 * P; i += 32)
            if (i + lane < n_chunk) copy_activations<16>(stages_at + stage * Q::BYTES + Q::WEIGHTS + (lane + i) * 16, x + quad * 256 * P + i * 8);
    };
#pragma unroll
    for (int i = 0; i < STAGES; i++) {
        if (i < n_step) copy_act(i, i % n_quad);
        commit_copies();
    }
    area.copy_rows(args, columns, tile0);
    commit_copies();
    if (args.squares) store_scales<P>(args, columns, area.scales);
    float acc[4] = {};
    const auto store_sums = [&](int range, int m) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = m * 16 + g + 8 * (i >> 1), column = 2 * t + (i & 1);
            if (column < P) sums[range][row][column] = acc[i];
            acc[i] = 0.0f;
        }
    };
    // Ranges that have no units.
    if (range_start<F>(args.n_unit, warp) == range_start<F>(args.n_unit, warp + 1)) {
        float* sum = sums[warp][0];
        for (int i = lane; i < MT * 16 * LD; i += 32) sum[i] = 0.0f;
    }
    int stage = 0, quad = 0, m = first_m;
#pragma unroll 1
    for (int step = 0; step < n_step; step++) {
        const int n = L::TAIL > 0 ? 4 : min(4, u1 - u0 - 4 * quad);
        const int next_quad = quad + 1 == n_quad ? 0 : quad + 1;
        wait_copies<STAGES - 1>();
        __syncwarp();
        const uint8_t* weights = stages + stage * Q::BYTES;
        const uint32_t act = stages_at + stage * Q::BYTES + Q::WEIGHTS + lane * 16;
        const auto multiply_quad = [&](const auto& unpack) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (L::TAIL == 0 && j >= n) break;
                Unit<F> unit;
                read_integers<F, false>(unit, weights + j * L::UNIT, lane);
                read_scales<F>(unit, weights + j * L::UNIT, weights + 4 * L::UNIT, g);
#pragma unroll
                for (int kb = 0; kb < 2; kb++) {
                    __align__(16) uint32_t a[2][4], b[4];
                    if constexpr (P == 1) *(uint4*)b = *(const uint4*)(weights + Q::WEIGHTS + (2 * j + kb) * 64 + t * 16);
                    // Lane 8 i + c gives where part i of the block is in column c.
                    else load_matrices(b, act + (2 * j + kb) * P * 64);
                    unpack(a, unit, kb);
                    mma_f16(acc, a[0], b[0], b[1]);
                    mma_f16(acc, a[1], b[2], b[3]);
                }
            }
        };
        const auto slowly = [](uint32_t (&a)[2][4], const Unit<F>& unit, int kb) { half_weights<F>(a, unit, kb); };
        if constexpr (WEIGHT_SHIFT<F> > 0) {
            const auto fast = [](uint32_t (&a)[2][4], const Unit<F>& unit, int kb) { half_weights_fast<F>(a, unit, kb); };
            if (__all_sync(~0u, is_fast<F>(*(const uint2*)(weights + 4 * L::UNIT + g * L::TAIL_STRIDE)))) multiply_quad(fast);
            else multiply_quad(slowly);
        } else {
            multiply_quad(slowly);
        }
        __syncwarp();
        if (step + STAGES < n_step) {
            copy_quad(stage, fill);
            copy_act(stage, fill.quad);
            advance(fill);
        }
        commit_copies();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        quad = next_quad;
        if (quad == 0 || (MT == 4 && quad == n_first)) {
            store_sums(quad == 0 && n_first < n_quad ? first_range + 1 : first_range, m);
            m += quad == 0;
        }
    }
    wait_copies<0>();
    __syncthreads();
    const Early<MT, P> source{args, columns, area, tile0, args.bias != nullptr};
    finish<-ACT_SHIFT - WEIGHT_SHIFT<F>, WARPS, MT * 16, LD>(args, sums, source, min(args.x.n_col, P), tile0, area.exchange());
}
