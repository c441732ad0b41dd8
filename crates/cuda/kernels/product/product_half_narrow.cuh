// Products in float16 for 1 column, or for P = 8 or 16 at a time, on mma.sync: as fast as the memory gives weights.
//
// Of more than P columns blockIdx.y counts the groups of P, each of which unpacks the weights anew: where a matrix is small, more blocks are worth it.
// A block computes MT tiles of 16 rows, a warp one range of units, or half of the tiles of two. A warp takes a "quad" of units at a time (`QUAD`).
// The two tiles of a gated product's block are 32 rows apart: a gate's and what it opens for.
// OF_EXPERTS: of one row, for which each chosen expert has one column: blockIdx.y counts them.
//
// The next kernel may start once this one no longer waits: its weights would come before what this one waits for.
#pragma once

#include "product/product_early.cuh"
#include "product/product_half.cuh"

// In shared memory. Activations are [block of 32][`half_place` in it].
template <int F, int P>
struct HalfQuad {
    using L = Layout<F>;
    static constexpr int UNITS = QUAD<F>;
    static constexpr int WEIGHTS = UNITS * L::UNIT + L::TAIL;
    static constexpr int BYTES = WEIGHTS + UNITS * 2 * P * 64;
};

// How many quads a warp has in shared memory at most: few where they are large or blocks are many, so that more of them fit.
template <int P, int MT, bool OF_EXPERTS = false>
__host__ __device__ constexpr int half_stages() {
    return P == 1 && (MT == 1 || (MT == 2 && OF_EXPERTS)) ? 3 : P > 8 || (P > 1 && MT > 1) ? 1 : 2;
}

// How many quads the block has room for; of one tile no more than there are. Where all of them fit, each lies in its place of the row.
template <int F, int P, int MT, bool OF_EXPERTS = false, int STAGES = half_stages<P, MT, OF_EXPERTS>()>
__host__ __device__ constexpr int half_room(int n_unit) {
    const int n_quad = (n_unit + QUAD<F> - 1) / QUAD<F>, most = WARPS * STAGES;
    return MT == 1 && n_quad < most ? n_quad : most;
}

// What an RMS norm multiplies its row by, of up to N columns a warp: as `norm_scale`, but the loads are under way while the products run.
template <int N>
struct EarlyScale {
    static constexpr int AHEAD = 4;
    const float* squares[N];  // null: none
    float ahead[N][AHEAD];

    __device__ __forceinline__ EarlyScale(const ProductArgs& args, const Columns& columns, int n_column) {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const int c = warp + k * WARPS;
            squares[k] = args.squares && c < n_column ? args.squares + (size_t)columns.source(c) * args.n_square : nullptr;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) ahead[k][i] = squares[k] && i * 32 + lane < args.n_square ? squares[k][i * 32 + lane] : 0.0f;
        }
    }

    __device__ __forceinline__ void store(const ProductArgs& args, float* scales) const {
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (!squares[k]) return;
            float sum = ahead[k][0];
#pragma unroll
            for (int i = 1; i < AHEAD; i++) sum += ahead[k][i];
            for (int i = AHEAD * 32 + (threadIdx.x & 31); i < args.n_square; i += 32) sum += squares[k][i];
            sum = warp_sum(sum);
            if ((threadIdx.x & 31) == 0) scales[(threadIdx.x >> 5) + k * WARPS] = scale_of_squares(sum, args.n_square, args.eps);
        }
    }
};

// `block` is which of the matrix's: blockIdx.x, unless a launch has several matrices.
template <int F, int P, int MT, bool OF_EXPERTS = false, int STAGES = half_stages<P, MT, OF_EXPERTS>()>
__device__ __forceinline__ void product_half_narrow(const ProductArgs& args, int block) {
    static_assert(P == 1 || !OF_EXPERTS, "an expert's one column");
    using L = Layout<F>;
    using Q = HalfQuad<F, P>;
    constexpr int UNITS = Q::UNITS;
    constexpr int LD = P + 1, NT = P == 1 ? 1 : P / 8;
    extern __shared__ __align__(128) uint8_t shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const bool is_pair = MT == 2 && !OF_EXPERTS && args.epilogue == EPILOGUE_GATED;
    const int tile0 = is_pair ? (block >> 1) * 4 + (block & 1) : block * MT, tile_step = is_pair ? 2 : 1;
    const size_t tile_bytes = L::tile_bytes(args.n_unit);
    // Of short rows some ranges are empty, and of an expert's, which are read in one go, some are twice as long as others: there two warps
    // share two ranges, and each has half of the tiles.
    const bool is_shared = MT > 1 && ((args.n_unit + 3) / 4 <= WARPS / 2 || OF_EXPERTS);
    const int first_range = is_shared ? warp & ~1 : warp, end_range = first_range + (is_shared ? 2 : 1);
    const int u0 = range_start<F>(args.n_unit, first_range), u1 = range_start<F>(args.n_unit, end_range);
    const int first_m = is_shared && (warp & 1) ? MT / 2 : 0;
    const int n_m = max(0, min(is_shared ? MT / 2 : MT, args.n_tile - tile0 - first_m));
    const int n_quad = (u1 - u0 + UNITS - 1) / UNITS, n_step = n_quad * (MT == 1 ? 1 : n_m);
    // Quads of the first range; the others are the second one's.
    const int n_first = is_shared ? (range_start<F>(args.n_unit, first_range + 1) - u0 + UNITS - 1) / UNITS : n_quad;

    // Dynamic shared memory: the stages, then the sums, then what the epilogue reads.
    const int room = half_room<F, P, MT, OF_EXPERTS, STAGES>(args.n_unit), stages_bytes = room * Q::BYTES;
    uint8_t* const stages = shared + (room < WARPS * STAGES ? u0 / UNITS : warp * STAGES) * Q::BYTES;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    float(*sums)[MT * 16][LD] = (float(*)[MT * 16][LD])(shared + stages_bytes);
    EarlyAreaOf<F, MT, P>& area = *(EarlyAreaOf<F, MT, P>*)(shared + stages_bytes + WARPS * MT * 16 * LD * 4);
    const uint8_t* w = args.w + (tile0 + tile_step * first_m) * tile_bytes + L::unit_at(u0) + lane * 16;
    // Steps go through the quads of a tile, then of the next.
    struct Step {
        const uint8_t* from;
        int quad;
    };
    const auto advance = [&](Step& step) {
        step.from += Q::WEIGHTS, step.quad++;
        if (MT > 1 && step.quad == n_quad) step.from += tile_step * tile_bytes - (size_t)n_quad * Q::WEIGHTS, step.quad = 0;
    };
    const auto copy_quad = [&](int stage, const Step& step) {
        const int n_chunk = L::TAIL > 0 ? Q::WEIGHTS / 16 : min(UNITS, u1 - u0 - UNITS * step.quad) * (L::UNIT / 16);
#pragma unroll
        for (int i = 0; i < Q::WEIGHTS / 16; i += 32)
            if (i + lane < n_chunk) copy_weights_once(stages_at + stage * Q::BYTES + (lane + i) * 16, step.from + i * 16);
    };

    Columns columns{nullptr, 1, P == 1 ? 0 : (int)blockIdx.y * P, args.x.n_col};
    Step fill{w, 0};
    const auto begin_weights = [&](const float* biases, const uint8_t* matrix) {
#pragma unroll
        for (int i = 0; i < STAGES; i++)
            if (i < n_step) {
                copy_quad(i, fill);
                advance(fill);
            }
        area.copy_learned(args, biases, tile0, is_pair ? 16 : 0);
        area.template copy_tile_scales<F>(args, matrix, tile0, tile_step);
    };
    // The first weights do not depend on the previous kernel, unless experts are yet to be chosen.
    if constexpr (!OF_EXPERTS) {
        begin_weights(args.bias, args.w);
        if constexpr (MT == 1) area.copy_places(args, tile0, columns.first);
    }
    // Past the first-level cache, which may have what was chosen for an earlier layer.
    const auto find_expert = [&] {
        const int n_active = __ldcg(args.active), expert = __ldcg(args.active + 1 + blockIdx.y);
        if ((int)blockIdx.y >= n_active) return false;
        // Of one row: the experts that are active have an entry each, in the same order.
        columns = Columns{args.entries, args.column_divisor, (int)blockIdx.y, (int)blockIdx.y + 1};
        fill.from += expert * args.expert_bytes;
        begin_weights(args.bias ? args.bias + (size_t)expert * args.n_tile * 16 : nullptr, args.w + expert * args.expert_bytes);
        return true;
    };
    bool is_active = true;
    if (OF_EXPERTS && args.is_chosen) is_active = find_expert();
    if (MT == 1 && args.next_weight) cluster_join();
    wait_for_previous();
    let_next_start();
    if (OF_EXPERTS && !args.is_chosen) is_active = find_expert();
    if (!is_active) return;
    const bool is_one_of_many = OF_EXPERTS && args.x.n_col > 1;
    const size_t block_stride = (size_t)(args.x.n_col + 7) / 8 * 256;
    const __half* x = args.x.h + lane * 8;
    if (P > 1) x += 2 * u0 * block_stride + columns.first / 8 * 256;
    else if (is_one_of_many) x = args.x.h + half_place(args.x.n_col, columns.source(0), 2 * u0, 0);
    else x += (size_t)u0 * 64;
    const int n_group = (min(columns.end - columns.first, P) + 7) / 8;
    const auto copy_act = [&](int stage, int quad) {
        if (is_one_of_many) {
            // Word [t][part] of a block where a column alone has it.
            const int n_block = 2 * min(UNITS, u1 - u0 - UNITS * quad);
            const __half* from = x + (2 * UNITS * quad + (lane >> 4)) * block_stride + (lane & 3) * 64 + (lane >> 2 & 3) * 2;
#pragma unroll
            for (int i = 0; i < UNITS; i++)
                if (2 * i + (lane >> 4) < n_block)
                    copy_activations<4>(stages_at + stage * Q::BYTES + Q::WEIGHTS + (lane + 32 * i) * 4, from + 2 * i * block_stride);
            return;
        }
        const int n_chunk = 8 * P * min(UNITS, u1 - u0 - UNITS * quad);
#pragma unroll
        for (int i = 0; i < 8 * UNITS * P; i += 32) {
            // Of columns that there are not, those before again.
            const int n = NT == 1 ? 0 : min(i / 32 % NT, n_group - 1);
            const __half* from = P == 1 ? x + quad * UNITS * 64 + i * 8 : x + (2 * UNITS * quad + i / 32 / NT) * block_stride + n * 256;
            if (i + lane < n_chunk) copy_activations<16>(stages_at + stage * Q::BYTES + Q::WEIGHTS + (lane + i) * 16, from);
        }
    };
#pragma unroll
    for (int i = 0; i < STAGES; i++) {
        if (i < n_step) copy_act(i, i % n_quad);
        commit_copies();
    }
    area.copy_rows(args, columns, tile0);
    commit_copies();
    const EarlyScale<(P + WARPS - 1) / WARPS> scale(args, columns, min(P, columns.end - columns.first));
    float acc[NT][4] = {};
    const auto store_sums = [&](int range, int m) {
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = m * 16 + g + 8 * (i >> 1), column = 8 * n + 2 * t + (i & 1);
                if (column < P) sums[range][row][column] = acc[n][i];
                acc[n][i] = 0.0f;
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
        const int n = L::TAIL > 0 ? UNITS : min(UNITS, u1 - u0 - UNITS * quad);
        const int next_quad = quad + 1 == n_quad ? 0 : quad + 1;
        wait_copies<STAGES - 1>();
        __syncwarp();
        const uint8_t* weights = stages + stage * Q::BYTES;
        const uint32_t act = stages_at + stage * Q::BYTES + Q::WEIGHTS + lane * 16;
        each_block<F, UNITS>(weights, weights + UNITS * L::UNIT, n, [&](int i, const uint32_t (&a)[2][4]) {
#pragma unroll
            for (int n = 0; n < NT; n++) {
                __align__(16) uint32_t b[4];
                if constexpr (P == 1) *(uint4*)b = *(const uint4*)(weights + Q::WEIGHTS + i * 64 + t * 16);
                // Lane 8 i + c gives where part i of the block is in column c.
                else load_matrices(b, act + i * P * 64 + n * 512);
                mma_f16(acc[n], a[0], b[0], b[1]);
                mma_f16(acc[n], a[1], b[2], b[3]);
            }
        });
        __syncwarp();
        if (step + STAGES < n_step) {
            copy_quad(stage, fill);
            copy_act(stage, fill.quad);
            advance(fill);
        }
        commit_copies();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        quad = next_quad;
        if (quad == 0 || (MT > 1 && quad == n_first)) {
            store_sums(quad == 0 && n_first < n_quad ? first_range + 1 : first_range, m);
            m += quad == 0;
        }
    }
    wait_copies<0>();
    scale.store(args, area.scales);
    __syncthreads();
    const Early<F, MT, P> source{args, columns, area, tile0, args.bias != nullptr};
    if constexpr (MT == 2) {
        if (is_pair) {
            finish_pair<-ACT_SHIFT - WEIGHT_SHIFT<F>>(args, sums, source, block, min(columns.end - columns.first, P));
            return;
        }
    }
    finish<-ACT_SHIFT - WEIGHT_SHIFT<F>, WARPS, MT * 16, LD>(args, sums, source, min(columns.end - columns.first, P), tile0, area.exchange());
}
