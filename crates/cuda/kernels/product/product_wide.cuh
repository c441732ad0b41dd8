// Products of generated rows with weights of integers, for more columns.
//
// A warp computes one tile of 16 rows for 8 NT columns. WT warps take the same units of WT tiles and share the activations in shared memory;
// the block's 8 / WT such groups have WT ranges each. A stage has two units.
#pragma once

#include "product/product_integer.cuh"

template <int F, int NT, int WT>
struct WideStage {
    using L = Layout<F>;
    static constexpr int UNITS = 2;
    static constexpr int WEIGHTS = UNITS * L::UNIT + L::TAIL;
    static constexpr int AT_INTEGERS = WT * WEIGHTS;
    static constexpr int AT_SCALES = AT_INTEGERS + UNITS * 2 * 8 * NT * 32;
    static constexpr int BYTES = AT_SCALES + UNITS * 2 * 8 * NT * 8;
};

constexpr int WIDE_STAGES = 3;

// Where the sums begin in dynamic shared memory: after the stages; where groups have two ranges, the sums of the second ones come first and
// take the place of the stages.
template <int F, int NT, int WT>
__host__ __device__ constexpr int wide_sums_at() {
    constexpr int STAGES = WARPS / WT * WIDE_STAGES * WideStage<F, NT, WT>::BYTES;
    constexpr int SECOND = 4 * WT * 16 * (8 * NT + 1) * 4;
    return WT == WARPS ? STAGES : STAGES > SECOND ? STAGES - SECOND : 0;
}

// Dynamic shared memory: the columns' scales come last.
template <int F, int NT, int WT>
__host__ __device__ constexpr int wide_scales_at() {
    return wide_sums_at<F, NT, WT>() + (WT == WARPS ? 1 : WARPS) * WT * 16 * (8 * NT + 1) * 4;
}
template <int F, int NT, int WT>
__host__ __device__ constexpr int wide_bytes() {
    return wide_scales_at<F, NT, WT>() + 8 * NT * 4;
}

template <int F, int NT, int WT>
__device__ __forceinline__ void product_wide(const ProductArgs& args) {
    using L = Layout<F>;
    using S = WideStage<F, NT, WT>;
    constexpr int STAGES = WIDE_STAGES, LD = 8 * NT + 1, THREADS = WT * 32, PARTS = WT == WARPS ? 1 : WARPS;
    static_assert(THREADS / 2 % (8 * NT) == 0, "a thread copies parts of one column");
    extern __shared__ __align__(128) uint8_t shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int group = warp / WT, member = warp % WT, thread = threadIdx.x % THREADS;
    const bool is_dense = args.column_divisor == 0;
    // Blocks of the same tiles and other columns come one after the other, so that the second finds the weights in L2.
    const int block = blockIdx.y * gridDim.x + blockIdx.x;
    const int tile0 = (is_dense ? block / gridDim.y : blockIdx.x) * WT, tile = min(tile0 + member, args.n_tile - 1);
    const int n_unit = args.n_unit, n_quad = (n_unit + 3) / 4;
    let_next_start();
    uint8_t* const stages = shared + group * STAGES * S::BYTES;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    float(*sums)[WT * 16][LD] = (float(*)[WT * 16][LD])(shared + wide_sums_at<F, NT, WT>());
    float* const scales = (float*)(shared + wide_scales_at<F, NT, WT>());
    const auto synchronise = [&] {
        if constexpr (WT == WARPS) __syncthreads();
        else asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(THREADS) : "memory");
    };
    const int first_range = group * WT, first_quad = n_quad * first_range / WARPS, end_quad = n_quad * (first_range + WT) / WARPS;
    const int u_end = min(4 * end_quad, n_unit);
    const uint8_t* w = args.w + tile * L::tile_bytes(n_unit) + lane * 16;
    const uint8_t* matrix = args.w;
    const auto copy_units = [&](int stage, int u) {
        constexpr int N = S::UNITS * L::UNIT / 16, ALL = S::WEIGHTS / 16;
        const uint32_t to = stages_at + stage * S::BYTES + member * S::WEIGHTS + lane * 16;
        const uint8_t* unit = w + L::unit_at(u);
        const uint8_t* tail = w + L::tail_at(u) - N * 16;
        const int n_chunk = L::TAIL > 0 ? ALL : min(S::UNITS, n_unit - u) * (L::UNIT / 16);
#pragma unroll
        for (int i = 0; i < ALL; i += 32)
            if (i + lane < n_chunk) copy_weights(to + i * 16, (i + 32 <= N || i + lane < N ? unit : tail) + i * 16);
    };

    if (is_dense) {
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++)
            if (4 * first_quad + i * S::UNITS < u_end) copy_units(i, 4 * first_quad + i * S::UNITS);
    }
    wait_for_previous();

    Columns columns{nullptr, 1, (int)(block % gridDim.y) * 8 * NT, args.x.n_col};
    const float* bias = args.bias;
    if (!is_dense) {
        if ((int)blockIdx.y >= args.active[0]) return;
        const int expert = args.active[1 + blockIdx.y];
        columns = Columns{args.entries, args.column_divisor, args.offsets[expert], args.offsets[expert + 1]};
        w += expert * args.expert_bytes;
        matrix += expert * args.expert_bytes;
        if (bias) bias += (size_t)expert * args.n_tile * 16;
    }
    bool weights_are_coming = is_dense;
    for (; columns.first < columns.end; columns.first += 8 * NT) {
        const int n_column = min(columns.end - columns.first, 8 * NT), n_col = args.x.n_col;
        // A thread copies 16 bytes of integers of one column, of every so many blocks, and scales of one.
        const int kb_q = (thread >> 1) / (8 * NT), kb_s = thread / (8 * NT);
        const int8_t* x = args.x.q + ((size_t)kb_q * n_col + columns.source((thread >> 1) % (8 * NT))) * 32 + (thread & 1) * 16;
        const ActScale* xs = args.x.s + (size_t)kb_s * n_col + columns.source(thread % (8 * NT));
        const auto copy_act = [&](int stage, int u) {
            const uint32_t to = stages_at + stage * S::BYTES;
            const int n_block = 2 * min(S::UNITS, n_unit - u);
#pragma unroll
            for (int i = 0; i < S::UNITS * 2 * 8 * NT * 2; i += THREADS) {
                const int kb = i / 2 / (8 * NT);
                if (kb_q + kb < n_block) copy_activations<16>(to + S::AT_INTEGERS + (thread + i) * 16, x + (size_t)((2 * u + kb) * n_col) * 32);
            }
#pragma unroll
            for (int i = 0; i < S::UNITS * 2 * 8 * NT; i += THREADS) {
                const int kb = i / (8 * NT);
                if (kb_s + kb < n_block) copy_activations<8>(to + S::AT_SCALES + (thread + i) * 8, xs + (size_t)((2 * u + kb) * n_col));
            }
        };
        int ahead = 4 * first_quad;
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++) {
            if (ahead < u_end) {
                if (!weights_are_coming) copy_units(i, ahead);
                copy_act(i, ahead);
            }
            ahead += S::UNITS;
            commit_copies();
        }
        weights_are_coming = false;
        if (args.squares) store_scales<8 * NT>(args, columns, scales);
        const auto each_sum = [&](auto&& with) {
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) with(n, i, member * 16 + g + 8 * (i >> 1), n * 8 + 2 * t + (i & 1));
        };
        float acc[4][NT][4] = {};
        const auto range_sum = [&](int n, int i) {
            return __fadd_rn(__fadd_rn(__fadd_rn(acc[0][n][i], acc[1][n][i]), acc[2][n][i]), acc[3][n][i]);
        };
        const int first_part = PARTS == 1 ? 0 : 4 + group;
        each_sum([&](int, int, int row, int column) { sums[first_part][row][column] = 0.0f; });
        int stage = 0, range = first_range;
#pragma unroll 1
        for (int quad = first_quad; quad < end_quad; quad++) {
#pragma unroll
            for (int j = 0; j < 4; j += S::UNITS) {
                if (L::TAIL == 0 && 4 * quad + j >= n_unit) break;
                wait_copies<STAGES - 2>();
                synchronise();
                if (ahead < u_end) {
                    const int free_stage = stage == 0 ? STAGES - 1 : stage - 1;
                    copy_units(free_stage, ahead);
                    copy_act(free_stage, ahead);
                }
                ahead += S::UNITS;
                commit_copies();
                const uint8_t* at = stages + stage * S::BYTES;
                const uint8_t* unit_at = at + member * S::WEIGHTS;
#pragma unroll
                for (int e = 0; e < S::UNITS; e++) {
                    if (L::TAIL == 0 && 4 * quad + j + e >= n_unit) break;
                    Unit<F> unit;
                    read_integers<F, false>(unit, unit_at + e * L::UNIT, lane);
                    read_scales<F>(unit, unit_at + e * L::UNIT, unit_at + S::UNITS * L::UNIT, g);
                    add_unit<F, NT>(acc, j + e, unit, at + S::AT_INTEGERS + e * 2 * 8 * NT * 32, at + S::AT_SCALES + e * 2 * 8 * NT * 8, lane);
                }
                stage = stage + 1 == STAGES ? 0 : stage + 1;
            }
            // The range of this quad: it ends where the next one begins. A group's last stays in the registers.
            while (n_quad * (range + 1) / WARPS <= quad) range++;
            if (n_quad * (range + 1) / WARPS == quad + 1 && (PARTS == 1 || range == first_range)) {
                each_sum([&](int n, int i, int row, int column) {
                    sums[first_part][row][column] = __fadd_rn(sums[first_part][row][column], range_sum(n, i));
#pragma unroll
                    for (int j = 0; j < 4; j++) acc[j][n][i] = 0.0f;
                });
            }
        }
        __syncthreads();
        if constexpr (PARTS > 1) {
            static_assert(WT == 2, "two ranges a group");
            each_sum([&](int n, int i, int row, int column) { sums[group][row][column] = range_sum(n, i); });
            __syncthreads();
        }
        const Late<F> source{args, columns, 0, tile0 * 16, bias, scales, matrix};
        finish<Layout<F>::SHIFT, PARTS, WT * 16, LD, (PARTS > 1)>(args, sums, source, n_column, tile0);
        if (is_dense) break;
        __syncthreads();
    }
}
