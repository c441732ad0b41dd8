// Products of generated rows with weights of integers, for up to 8 columns: as fast as the memory gives weights.
//
// A block computes MT tiles of 16 rows for up to P columns, a warp one range of units, or half of the tiles of two. A warp takes four units at a time, a "quad". With
// fewer than 8 columns, an mma's 8 columns are several blocks of the same column of activations: each mma has the activations of one block
// in that block's mma columns and zeros in the others, and the sum of the mmas has every block's dot product in another place. So no two
// lanes do the same float work, and at one column a lane has four dot products a quad rather than sixteen.
#pragma once

#include "product/product_early.cuh"
#include "product/product_integer.cuh"

// For P < 8 there are P sets of mmas, each of 4 / P units; mma column n is, from the highest bit on, the column, the unit within the set,
// the block within the unit.
template <int F, int P>
struct Quad {
    using L = Layout<F>;
    static constexpr int SETS = P < 8 ? P : 4;
    static constexpr int UNITS = 4 / SETS;      // of a set
    static constexpr int SUMS = P < 8 ? 2 : 4;  // of a lane and set: rows g and g + 8 (times columns 2t and 2t + 1)
    // In shared memory.
    static constexpr int WEIGHTS = 4 * L::UNIT + L::TAIL;
    static constexpr int INTEGERS = 8 * P * 32;
    static constexpr int BYTES = WEIGHTS + INTEGERS + 8 * P * 8;
};

// The activations of a set that a lane needs: the block of its mma column as the source of B, and the scales of the unit whose two blocks
// are its two mma columns of results.
struct SetActivations {
    uint2 b;
    ActScale scales[2];
};

// Adds the products of the first `n` units of a quad, of which `act(s)` gives the activations of set s; acc[s] belongs to the stripe of the
// lane's unit in set s. What is there of other units is multiplied as well and goes nowhere.
template <int F, int P, class Act>
__device__ __forceinline__ void add_sets(float (&acc)[P][2], const uint8_t* weights, const Act& act, int n, int lane) {
    using L = Layout<F>;
    using Q = Quad<F, P>;
    constexpr int GROUPS = L::GROUPS_OF_16 ? 2 : 1;
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int s = 0; s < P; s++) {
        const SetActivations x = act(s);
        constexpr bool BIASED = F == MXFP4;
        // Two chains of mmas, because each waits for the one before it.
        int c[GROUPS][4], other[GROUPS][4], sum[GROUPS][4];
        if constexpr (BIASED) {
            constexpr uint32_t MINUS = 0x01010101u * (uint8_t)-E2M1_BIAS;
            mma_s8_k32(c[0], make_uint4(MINUS, MINUS, MINUS, MINUS), x.b, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS, MAGIC_BITS);
        }
#pragma unroll
        for (int i = 0; i < Q::UNITS; i++) {
            Unit<F> w;
            read_integers<F, false>(w, weights + (s * Q::UNITS + i) * L::UNIT, lane);
#pragma unroll
            for (int kb = 0; kb < 2; kb++) {
                const bool is_mine = g % (2 * Q::UNITS) == 2 * i + kb;
                const uint2 b = is_mine ? x.b : make_uint2(0, 0);
                if (kb == 0) {
                    if (i == 0 && !BIASED) multiply_block<F, true>(c, w, kb, b);
                    else multiply_block<F, false, BIASED>(c, w, kb, b);
                } else {
                    if (i == 0) multiply_block<F, true, BIASED>(other, w, kb, b, 0);
                    else multiply_block<F, false, BIASED>(other, w, kb, b);
                }
            }
        }
        if constexpr (F == Q2_K) sums_of_groups(sum, x.b);
        const int unit = s * Q::UNITS + t % Q::UNITS;
        Unit<F> w;
        read_scales<F>(w, weights + unit * L::UNIT, weights + 4 * L::UNIT, g);
        float next[2] = {acc[s][0], acc[s][1]};
#pragma unroll
        for (int kb = 0; kb < 2; kb++)
#pragma unroll
            for (int h = 0; h < GROUPS; h++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int dot = c[h][2 * r + kb] + other[h][2 * r + kb];
                    next[r] = add_block<F>(next[r], dot, scale_of<F>(w, kb, r, h), x.scales[kb], sum[h][kb]);
                }
#pragma unroll
        for (int r = 0; r < 2; r++) acc[s][r] = L::TAIL > 0 || unit < n ? next[r] : acc[s][r];
    }
}

// How many quads a warp has in shared memory at most: few where there are many blocks, so that more of them fit.
template <int MT>
__host__ __device__ constexpr int narrow_stages() {
    return MT == 1 ? 3 : 2;
}

// How many it has room for: of one tile no more than there are.
template <int MT>
__device__ __forceinline__ int narrow_room(int n_unit) {
    return MT == 1 ? min(narrow_stages<MT>(), ((n_unit + 3) / 4 + WARPS - 1) / WARPS) : narrow_stages<MT>();
}

// `block` is which of the matrix's: blockIdx.x, unless a launch has several matrices.
template <int F, int P, int MT>
__device__ __forceinline__ void product_narrow(const ProductArgs& args, int block) {
    using L = Layout<F>;
    using Q = Quad<F, P>;
    constexpr int STAGES = narrow_stages<MT>(), LD = P + 1;
    extern __shared__ __align__(128) uint8_t shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int tile0 = block * MT;
    const size_t tile_bytes = L::tile_bytes(args.n_unit);
    // Of short rows some ranges are empty, and of an expert's, which are read in one go, some are twice as long as others: there two warps
    // share two ranges, and each has half of the tiles.
    const bool is_shared = MT == 4 && ((args.n_unit + 3) / 4 <= WARPS / 2 || args.column_divisor != 0);
    const int first_range = is_shared ? warp & ~1 : warp, end_range = first_range + (is_shared ? 2 : 1);
    const int u0 = range_start<F>(args.n_unit, first_range), u1 = range_start<F>(args.n_unit, end_range);
    const int first_m = is_shared && (warp & 1) ? MT / 2 : 0;
    const int n_m = max(0, min(is_shared ? MT / 2 : MT, args.n_tile - tile0 - first_m));
    const int n_quad = (u1 - u0 + 3) / 4, n_step = n_quad * (MT == 1 ? 1 : n_m);
    // Quads of the first range; the others are the second one's.
    const int n_first = is_shared ? (range_start<F>(args.n_unit, first_range + 1) - u0 + 3) / 4 : n_quad;
    let_next_start();

    // Dynamic shared memory: the stages, then the sums, then what the epilogue reads.
    const int stages_bytes = narrow_room<MT>(args.n_unit) * Q::BYTES;
    uint8_t* const stages = shared + warp * stages_bytes;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    float(*sums)[MT * 16][LD] = (float(*)[MT * 16][LD])(shared + WARPS * stages_bytes);
    EarlyAreaOf<F, MT, P>& area = *(EarlyAreaOf<F, MT, P>*)(shared + WARPS * (stages_bytes + MT * 16 * LD * 4));
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

    // The first weights do not depend on the previous kernel, unless experts are yet to be chosen.
    const bool is_dense = args.column_divisor == 0;
    if (is_dense) {
        Step step{w, 0};
#pragma unroll
        for (int i = 0; i < STAGES; i++)
            if (i < n_step) {
                copy_quad(i, step);
                advance(step);
            }
        area.copy_learned(args, args.bias, tile0, 0);
        area.template copy_tile_scales<F>(args, args.w, tile0, 1);
        if constexpr (MT == 1) area.copy_places(args, tile0, blockIdx.y * P);
    }
    if (MT == 1 && args.next_weight) cluster_join();
    wait_for_previous();

    Columns columns{nullptr, 1, (int)blockIdx.y * P, args.x.n_col};
    const float* bias = args.bias;
    const uint8_t* matrix = args.w;
    if (!is_dense) {
        if ((int)blockIdx.y >= args.active[0]) return;
        const int expert = args.active[1 + blockIdx.y];
        columns = Columns{args.entries, args.column_divisor, args.offsets[expert], args.offsets[expert + 1]};
        w += expert * args.expert_bytes;
        matrix += expert * args.expert_bytes;
        if (bias) bias += (size_t)expert * args.n_tile * 16;
    }
    bool weights_are_coming = is_dense;
    for (; columns.first < columns.end; columns.first += P) {
        // A lane copies 16 bytes of integers of one column, and one scale of one.
        const int8_t* x = args.x.q + ((size_t)u0 * 2 * args.x.n_col + columns.source((lane >> 1) % P)) * 32 + (lane & 1) * 16;
        const ActScale* xs = args.x.s + (size_t)u0 * 2 * args.x.n_col + columns.source(lane % P);
        const auto copy_act = [&](int stage, int quad) {
            const int n_block = 2 * min(4, u1 - u0 - 4 * quad);
            const uint32_t to = stages_at + stage * Q::BYTES + Q::WEIGHTS;
#pragma unroll
            for (int i = 0; i < 16 * P; i += 32) {
                const int kb = ((lane >> 1) + i / 2) / P;
                if (kb < n_block) copy_activations<16>(to + (lane + i) * 16, x + (size_t)((8 * quad + kb) * args.x.n_col) * 32);
            }
#pragma unroll
            for (int i = 0; i < 8 * P; i += 32) {
                const int kb = (lane + i) / P;
                if (kb < n_block) copy_activations<8>(to + Q::INTEGERS + (lane + i) * 8, xs + (size_t)((8 * quad + kb) * args.x.n_col));
            }
        };
        Step fill{w, 0};
#pragma unroll
        for (int i = 0; i < STAGES; i++) {
            if (i < n_step) {
                if (!weights_are_coming) copy_quad(i, fill);
                copy_act(i, fill.quad);
                advance(fill);
            }
            commit_copies();
        }
        area.copy_rows(args, columns, tile0);
        if (!is_dense) {
            area.copy_learned(args, bias, tile0, 0);
            area.template copy_tile_scales<F>(args, matrix, tile0, 1);
        }
        commit_copies();
        weights_are_coming = false;
        if (args.squares) store_scales<P>(args, columns, area.scales);
        float acc[Q::SETS][Q::SUMS] = {};
        // The stripes of a range in order; for P < 4 they are in neighbouring lanes.
        const auto store_sums = [&](int range, int m) {
#pragma unroll
            for (int i = 0; i < Q::SUMS; i++) {
                float y = 0.0f;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float v = acc[j / Q::UNITS][i];
                    const float stripe = j % Q::UNITS == 0 ? v : __shfl_down_sync(~0u, v, j % Q::UNITS);
                    y = j == 0 ? stripe : __fadd_rn(y, stripe);
                }
                const int row = m * 16 + g + 8 * (P < 8 ? i : i >> 1), column = P < 8 ? t / Q::UNITS : 2 * t + (i & 1);
                if (t % Q::UNITS == 0) sums[range][row][column] = y;
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
            const uint8_t* act = weights + Q::WEIGHTS;
            if constexpr (P < 8) {
                const auto act_of = [&](int s) {
                    SetActivations of;
                    const int from = (s * Q::UNITS * 2 + g % (2 * Q::UNITS)) * P + g / (2 * Q::UNITS);
                    of.b = *(const uint2*)(act + from * 32 + t * 8);
                    const ActScale* at = (const ActScale*)(act + Q::INTEGERS) + 2 * (s * Q::UNITS + t % Q::UNITS) * P + t / Q::UNITS;
                    of.scales[0] = at[0], of.scales[1] = at[P];
                    return of;
                };
                add_sets<F, P>(acc, weights, act_of, n, lane);
            } else {
                float(&stripes)[4][1][4] = (float(&)[4][1][4])acc;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (L::TAIL == 0 && j >= n) break;
                    Unit<F> unit;
                    read_integers<F, false>(unit, weights + j * L::UNIT, lane);
                    read_scales<F>(unit, weights + j * L::UNIT, weights + 4 * L::UNIT, g);
                    add_unit<F, 1>(stripes, j, unit, act + j * 512, act + Q::INTEGERS + j * 128, lane);
                }
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
#pragma unroll
                for (int s = 0; s < Q::SETS; s++)
#pragma unroll
                    for (int i = 0; i < Q::SUMS; i++) acc[s][i] = 0.0f;
            }
        }
        wait_copies<0>();
        __syncthreads();
        const Early<F, MT, P> source{args, columns, area, tile0, bias != nullptr};
        finish<Layout<F>::SHIFT, WARPS, MT * 16, LD>(args, sums, source, min(columns.end - columns.first, P), tile0, area.exchange());
        if (is_dense) break;
        __syncthreads();
    }
}
