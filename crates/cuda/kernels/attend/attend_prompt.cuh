// Attention of prompt rows: spans of several sequences, each row over the keys up to its own position (FlashAttention-2, arXiv
// 2307.08691, on mma.sync).
//
// A block computes a tile of 64 MT pairs (row, query head) of one key head and one span, rows outermost, so that all heads of a group
// share the keys they load (arXiv 2305.13245). Keys come a page at a time, ascending from the first page that any of the tile's
// rows sees. A page of which a row sees nothing leaves the row's maximum, total and sums as they are, bit for bit; and what a
// row takes from a page does not depend on the other rows. So a row's bits depend on its own position only.
//
// SPLIT: queries, weights and results are two float16 terms each, the second what the first leaves, for what a second instruction on the
// same keys or values costs. A row of `q` and of `out` then is all high terms followed by all low ones.
//
// Grid (n_kv_head, at least the number of tiles), threads and dynamic shared memory as in src/launch/attend.rs.
#pragma once

#include "attend/attend.cuh"

#include <climits>

struct AttendPromptArgs {
    const __half* q;         // [n_row, n_head * head_dim], after RoPE
    const __half* k_cache;   // this layer's, the step's own rows included
    const __half* v_cache;
    __half* out;             // [n_row, n_head * head_dim]
    const PromptSpan* spans;  // [n_span]
    const uint32_t* page_tables;
    const float* sinks;      // [n_head] or null
    int32_t n_span;
    int32_t n_head;
    int32_t n_kv_head;
    int32_t max_pages;
    int32_t window;          // 0: none
    float scale;             // above 0
    int32_t even_then_odd;   // 1: `out` is in the order of prompt_packed.cuh; read by the kernels on wgmma alone
    int32_t reserved;
};
static_assert(sizeof(AttendPromptArgs) == 88, "as in src/launch/attend.rs");

// 16-row matrix tiles of a warp: as many as the registers hold sums for, and, like the warps, as the shared memory holds queries for.
template <int HD, bool SPLIT>
constexpr int M_TILES = HD <= 128 && !SPLIT ? 2 : 1;
template <int HD, bool SPLIT>
constexpr int N_WARP = HD > 128 && SPLIT ? 2 : 4;

// Which tile of which span.
struct Place {
    int span;  // -1: none
    int tile;  // in the span
};

// The `index`-th tile from the last span's last one back to the first: those with the most keys start first. Every warp finds it.
__device__ __forceinline__ Place find_tile(const PromptSpan* spans, int n_span, int group, int rows, int index) {
    const int lane = threadIdx.x & 31;
    for (int end = n_span; end > 0; end -= 32) {
        const int span = end - 1 - lane;
        const int n = span >= 0 ? (spans[span].n_row * group + rows - 1) / rows : 0;
        int sum = n;  // tiles of this lane's span and of those after it
#pragma unroll
        for (int o = 1; o < 32; o <<= 1) {
            const int v = __shfl_up_sync(~0u, sum, o);
            if (lane >= o) sum += v;
        }
        const unsigned reached = __ballot_sync(~0u, index < sum);
        if (reached) {
            const int first = __ffs(reached) - 1;
            return {__shfl_sync(~0u, span, first), __shfl_sync(~0u, sum, first) - 1 - index};
        }
        index -= __shfl_sync(~0u, sum, 31);
    }
    return {-1, 0};
}

// What a block computes: ROWS pairs of a span and a key head, numbered row * group + head, as far as there are so many. They see the pages from
// `begin` to `end`.
template <int ROWS>
struct PairTile {
    PromptSpan span;
    int first_pair, n_pair, first_position, last_position, window, begin, end;

    __device__ __forceinline__ PairTile(const AttendPromptArgs& args, int group, Place place) : span(args.spans[place.span]) {
        first_pair = place.tile * ROWS, n_pair = min(ROWS, span.n_row * group - first_pair);
        first_position = span.start + first_pair / group, last_position = span.start + (first_pair + n_pair - 1) / group;
        window = args.window > 0 ? args.window : INT_MAX;
        begin = max(0, first_position + 1 - window) / PAGE, end = last_position / PAGE + 1;
    }
};

// Values of a row of shared memory: 16 bytes more than the head has, so that 8 rows' 16 bytes lie in different banks.
template <int HD>
constexpr int STRIDE = HD + 8;

// A page's keys or values, in the background; positions from n_wanted on are zeros.
template <int HD, int THREADS>
__device__ __forceinline__ void copy_page(uint32_t to, const __half* from, int n_wanted) {
    constexpr int CHUNKS = HD / 8;
#pragma unroll
    for (int j = 0; j < PAGE * CHUNKS / THREADS; j++) {
        const int i = threadIdx.x + j * THREADS, row = i / CHUNKS, c = i % CHUNKS;
        copy_async(to + (row * STRIDE<HD> + c * 8) * 2, from + i * 8, row < n_wanted);
    }
}

template <int HD, bool SPLIT>
__device__ __forceinline__ void attend_prompt(const AttendPromptArgs& args) {
    constexpr int MT = M_TILES<HD, SPLIT>, WARPS = N_WARP<HD, SPLIT>, THREADS = WARPS * 32, ROWS = 16 * WARPS * MT, N8 = PAGE / 8;
    constexpr int TERMS = SPLIT ? 2 : 1;
    extern __shared__ __align__(16) __half memory[];
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int group = args.n_head / args.n_kv_head, kv_head = blockIdx.x;
    const Place place = find_tile(args.spans, args.n_span, group, ROWS, blockIdx.y);
    if (place.span < 0) return;
    const PairTile<ROWS> tile(args, group, place);
    const PromptSpan span = tile.span;
    const int first_pair = tile.first_pair, n_pair = tile.n_pair, window = tile.window, begin = tile.begin, end = tile.end;
    const int first_position = tile.first_position, last_position = tile.last_position;
    const size_t width = (size_t)args.n_head * HD;
    const auto pair_at = [&](int pair) {
        const int row = pair / group;
        return (size_t)(span.row0 + row) * width * TERMS + (size_t)(kv_head * group + pair - row * group) * HD;
    };

    __half* sq = memory;
    const uint32_t q_at = (uint32_t)__cvta_generic_to_shared(sq);
    const uint32_t k_at = q_at + TERMS * ROWS * STRIDE<HD> * 2, v_at = k_at + PAGE * STRIDE<HD> * 2;
    const uint32_t* pages = args.page_tables + (size_t)span.slot * args.max_pages;
    const auto page_at = [&](uint32_t page) { return ((size_t)page * args.n_kv_head + kv_head) * (PAGE * HD); };

    uint32_t page = __ldg(pages + begin);
#pragma unroll 4
    for (int j = 0; j < ROWS * (HD / 8) / THREADS; j++) {
        const int i = threadIdx.x + j * THREADS, row = i / (HD / 8), c = i % (HD / 8);
        const bool exists = row < n_pair;
        const __half* from = args.q + pair_at(first_pair + (exists ? row : 0)) + c * 8;
#pragma unroll
        for (int term = 0; term < TERMS; term++)
            copy_async(q_at + ((term * ROWS + row) * STRIDE<HD> + c * 8) * 2, from + term * width, exists);
    }
    copy_page<HD, THREADS>(k_at, args.k_cache + page_at(page), last_position + 1 - begin * PAGE);
    commit_copies();

    int position[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int h = 0; h < 2; h++)
            position[i][h] = span.start + (first_pair + min((warp * MT + i) * 16 + h * 8 + g, n_pair - 1)) / group;
    }
    float acc[MT][HD / 8][4] = {};
    float m[MT][2], l[MT][2] = {};
#pragma unroll
    for (int i = 0; i < MT; i++) m[i][0] = m[i][1] = -INFINITY;
    const float scale = args.scale * LOG2_E;
    // What ldmatrix wants of a lane: of queries and values rows 0 to 15 of the first 8 values, then of the next; of keys positions 0 to 7,
    // both halves of 16 values, then positions 8 to 15.
    const uint32_t q_lane = q_at + ((warp * MT * 16 + (lane & 15)) * STRIDE<HD> + (lane >> 4) * 8) * 2;
    const uint32_t k_lane = k_at + (((lane & 7) + (lane >> 4) * 8) * STRIDE<HD> + (lane >> 3 & 1) * 8) * 2;
    const uint32_t v_lane = v_at + ((lane & 15) * STRIDE<HD> + (lane >> 4) * 8) * 2;

    for (int index = begin; index < end; index++) {
        const int at = index * PAGE;
        wait_for_copies();
        __syncthreads();  // keys are here, and no one needs the last values
        copy_page<HD, THREADS>(v_at, args.v_cache + page_at(page), last_position + 1 - at);
        commit_copies();
        if (index + 1 < end) page = __ldg(pages + index + 1);

        float s[MT][N8][4] = {};
#pragma unroll
        for (int k = 0; k < HD / 16; k++) {
            uint32_t q[TERMS][MT][4];
#pragma unroll
            for (int term = 0; term < TERMS; term++)
#pragma unroll
                for (int i = 0; i < MT; i++) load_matrices(q[term][i], q_lane + ((term * ROWS + i * 16) * STRIDE<HD> + k * 16) * 2);
#pragma unroll
            for (int n = 0; n < N8; n += 2) {
                uint32_t b[4];
                load_matrices(b, k_lane + (n * 8 * STRIDE<HD> + k * 16) * 2);
#pragma unroll
                for (int term = 0; term < TERMS; term++)
#pragma unroll
                    for (int i = 0; i < MT; i++) {
                        mma_f16(s[i][n], q[term][i], b[0], b[1]);
                        mma_f16(s[i][n + 1], q[term][i], b[2], b[3]);
                    }
            }
        }
        wait_for_copies();
        __syncthreads();  // values are here, and no one needs the keys
        if (index + 1 < end) {
            copy_page<HD, THREADS>(k_at, args.k_cache + page_at(page), last_position + 1 - at - PAGE);
            commit_copies();
        }

        if (at + PAGE - 1 > first_position || at <= last_position - window) {
#pragma unroll
            for (int i = 0; i < MT; i++) {
#pragma unroll
                for (int n = 0; n < N8; n++) {
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        const int p = at + n * 8 + 2 * t + (c & 1);
                        if (p > position[i][c >> 1] || p <= position[i][c >> 1] - window) s[i][n][c] = -INFINITY;
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < MT; i++) {
            float shrink[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float top = m[i][h];
#pragma unroll
                for (int n = 0; n < N8; n++) top = fmaxf(top, fmaxf(s[i][n][2 * h], s[i][n][2 * h + 1]));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
                const float base = finite_max(top) * scale;
                shrink[h] = exp2_fast((m[i][h] - finite_max(top)) * scale);
                m[i][h] = top;
                float total = 0.0f;
#pragma unroll
                for (int n = 0; n < N8; n++) {
#pragma unroll
                    for (int c = 2 * h; c < 2 * h + 2; c++) {
                        s[i][n][c] = exp2_fast(fmaf(s[i][n][c], scale, -base));
                        total += s[i][n][c];
                    }
                }
                l[i][h] = l[i][h] * shrink[h] + total;
            }
            // Most often no maximum has changed; a product with 1 would change nothing.
            if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
                for (int d = 0; d < HD / 8; d++) {
#pragma unroll
                    for (int c = 0; c < 4; c++) acc[i][d][c] *= shrink[c >> 1];
                }
            }
        }
#pragma unroll
        for (int k = 0; k < PAGE / 16; k++) {
            uint32_t p[TERMS][MT][4];
#pragma unroll
            for (int i = 0; i < MT; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float x = s[i][2 * k + j / 2][j % 2 * 2], y = s[i][2 * k + j / 2][j % 2 * 2 + 1];
                    p[0][i][j] = pack_half2(x, y);
                    if constexpr (SPLIT) p[1][i][j] = second_half2(x, y, p[0][i][j]);
                }
            }
#pragma unroll
            for (int d = 0; d < HD / 8; d += 2) {
                uint32_t b[4];
                load_matrices_transposed(b, v_lane + (k * 16 * STRIDE<HD> + d * 8) * 2);
#pragma unroll
                for (int term = 0; term < TERMS; term++)
#pragma unroll
                    for (int i = 0; i < MT; i++) {
                        mma_f16(acc[i][d], p[term][i], b[0], b[1]);
                        mma_f16(acc[i][d + 1], p[term][i], b[2], b[3]);
                    }
            }
        }
    }

    // Through shared memory, where the warp's queries were, to whole lines.
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float total = l[i][h];
            total += __shfl_xor_sync(~0u, total, 1);
            total += __shfl_xor_sync(~0u, total, 2);
            const int row = (warp * MT + i) * 16 + h * 8 + g;
            float factor = 1.0f / total;
            if (args.sinks) {
                const float sink = args.sinks[kv_head * group + (first_pair + row) % group] * LOG2_E;
                const float top = m[i][h] * scale, largest = fmaxf(top, sink), shrink = exp2_fast(top - largest);
                factor = shrink / (total * shrink + exp2_fast(sink - largest));
            }
#pragma unroll
            for (int d = 0; d < HD / 8; d++) {
                const float x = acc[i][d][2 * h] * factor, y = acc[i][d][2 * h + 1] * factor;
                const uint32_t high = pack_half2(x, y);
                *(uint32_t*)&sq[row * STRIDE<HD> + d * 8 + 2 * t] = high;
                if constexpr (SPLIT) *(uint32_t*)&sq[(ROWS + row) * STRIDE<HD> + d * 8 + 2 * t] = second_half2(x, y, high);
            }
        }
    }
    __syncwarp();
    for (int i = lane; i < MT * 16 * (HD / 8); i += 32) {
        const int row = warp * MT * 16 + i / (HD / 8), c = i % (HD / 8);
        if (row >= n_pair) continue;
        __half* to = args.out + pair_at(first_pair + row) + c * 8;
#pragma unroll
        for (int term = 0; term < TERMS; term++)
            *(uint4*)(to + term * width) = *(const uint4*)&sq[(term * ROWS + row) * STRIDE<HD> + c * 8];
    }
}
